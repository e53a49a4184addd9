"""Does a device do what it should? Registers, memory, every kind of layer, a denoising step, and how fast."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...hls.artefact.model import QuantizedModel
from ...hls.artefact.model import load as load_artefact
from ...hls.contract.graph import Graph
from ...hls.contract.interpreter import Interpreter
from ...hls.contract.random_graphs import GraphBuilder, random_unet
from ...hls.machine.isa import CONFIG_HASH, CONTROL, DESCRIPTOR_COUNT, IDLE, Region, base_registers
from ..devices.device import Device
from ..program.compiler import compile_program
from .model import BUNDLED_MODEL, Model
from .schedulers import standard_normal
from .session import DIFFERENCE, FLOWS, Session

MEMORY_BYTES = 1 << 20
LAYER_SEEDS = (0, 1, 2, 3)  # random networks that have every kind of layer between them
FIRST_STEP = "4f6671a0"  # of the bundled model's output for sample 0 of seed 0, SHA-256 of its codes


THROUGHPUT_BATCH = 16  # of a board
SIMULATED = ("emulator", "csim", "emulated-")  # how names of devices begin that no board is behind


@dataclass(frozen=True)
class Check:
    """The result of one check. ``detail``: what was found and, where it failed, what was expected and what to do."""

    name: str
    passed: bool
    detail: str


def default_batch(device: Device) -> int:
    """Samples of the throughput test of a device: one where a board is simulated, since all its steps run in software."""
    return 1 if device.name.startswith(SIMULATED) else THROUGHPUT_BATCH


def selftest(device: Device, batch: int | None = None) -> Iterator[Check]:
    """Run all checks, one after the other; one that raises has failed, and the others still run."""
    samples = default_batch(device) if batch is None else batch
    checks: tuple[tuple[str, Callable[[Device], tuple[bool, str]]], ...] = (
        ("registers", _registers),
        ("memory", _memory),
        *((f"layers, network {seed}", _layers(seed)) for seed in LAYER_SEEDS),
        ("denoising step", _denoising_step),
        ("throughput", lambda device: _throughput(device, samples)),
    )
    for name, check in checks:
        try:
            passed, detail = check(device)
        except Exception as error:  # whatever is broken, the report goes on
            passed, detail = False, f"{type(error).__name__}: {error}"
        yield Check(name, passed, detail)


def _registers(device: Device) -> tuple[bool, str]:
    found, expected = device.read_register(CONFIG_HASH), device.config.register_hash
    if found != expected:
        return (
            False,
            f"found configuration {found:#010x}, expected {expected:#010x}; load the bitstream of this configuration",
        )
    if not device.read_register(CONTROL) & IDLE:
        return False, "the accelerator is not idle; configure the board again"
    offsets = [DESCRIPTOR_COUNT, *(offset for region in Region for offset in base_registers(region))]
    for pattern in (0x5555_5555, 0xAAAA_AAAA, 0):
        for index, offset in enumerate(offsets):
            device.write_register(offset, pattern ^ index)
        for index, offset in enumerate(offsets):
            value = device.read_register(offset)
            if value != pattern ^ index:
                return False, f"register {offset:#x} holds {value:#010x}, expected {pattern ^ index:#010x}"
    for offset in offsets:
        device.write_register(offset, 0)
    device.ownership.forget()
    return True, f"configuration {found:#010x}, idle, {len(offsets)} registers hold what is written"


def _memory(device: Device) -> tuple[bool, str]:
    pattern = np.random.default_rng(0).integers(0, 256, MEMORY_BYTES, np.uint8)
    buffer = device.allocate(MEMORY_BYTES)
    try:
        start = time.perf_counter()
        buffer.data[:] = pattern
        buffer.flush()
        buffer.invalidate()
        wrong = np.flatnonzero(buffer.data != pattern)
        seconds = time.perf_counter() - start
    finally:
        buffer.free()
    if wrong.size:
        return False, f"{wrong.size} of {MEMORY_BYTES:,} bytes differ, the first at {buffer.address + int(wrong[0]):#x}"
    return (
        True,
        f"{MEMORY_BYTES >> 20} MiB at {buffer.address:#x} intact, {2e-6 * MEMORY_BYTES / seconds:.0f} MB/s there and back",
    )


def _layers(seed: int) -> Callable[[Device], tuple[bool, str]]:
    def check(device: Device) -> tuple[bool, str]:
        build, graph = random_unet(seed)
        wrong = [flow for flow in FLOWS if not _equal_to_reference(build, graph, device, flow)]
        kinds = ", ".join(sorted({type(node).__name__ for node in graph.nodes}))
        if wrong:
            return False, f"flows {', '.join(wrong)} differ from the integer reference; layers: {kinds}"
        return True, f"{len(graph.nodes)} layers equal the integer reference in {len(FLOWS)} execution flows: {kinds}"

    return check


def _equal_to_reference(build: GraphBuilder, graph: Graph, device: Device, flow: str) -> bool:
    artefact = QuantizedModel(graph, build.tables, _unit_scales(graph), {}, {}, {})
    session = Session(compile_program(graph, build.tables, device.config, 1), artefact, device)
    random = np.random.default_rng(build.seed)
    sample = random.integers(-128, 128, (1, *graph.tensors[graph.input].shape)).astype(np.int8)
    context = None if graph.context is None else random.integers(-128, 128, (1, *graph.tensors[graph.context].shape))
    labels = np.zeros(1, np.int64)
    reference = Interpreter(graph, build.tables)
    try:
        for step in range(graph.steps):
            codes = None if context is None else context.astype(np.int8)
            expected = reference.step(sample, step, labels, context=codes)[graph.output]
            planes = sample.transpose(0, 3, 1, 2).astype(np.float64)
            values = None if codes is None else graph.decode_context(codes, 1.0)
            session.run_step(planes, step, labels, flow, values)
            if not np.array_equal(session.codes(graph.output), expected):
                return False
            sample = np.clip(sample.astype(np.int64) + random.integers(-3, 4, sample.shape), -128, 127).astype(np.int8)
    finally:
        session.close()
    return True


def _unit_scales(graph: Graph) -> dict[str, np.ndarray]:
    names = [graph.input, graph.output, *([graph.context] if graph.context else [])]
    return {name: np.ones(graph.groups) for name in names}


def _denoising_step(device: Device) -> tuple[bool, str]:
    model = Model(load_artefact(BUNDLED_MODEL), device)
    try:
        session = model.session(1)
        sample = standard_normal(0, 0, 0, model.artefact.graph.sample_shape)[None]
        session.run_step(sample, 0, np.zeros(1, np.int64), DIFFERENCE)
        found = hashlib.sha256(session.codes(model.artefact.graph.output).tobytes()).hexdigest()[: len(FIRST_STEP)]
    finally:
        model.release()
    if found != FIRST_STEP:
        return False, f"found hash {found}, expected {FIRST_STEP}: not the bits that every other device computes"
    return True, f"the bundled model's first step has hash {found}, as stored"


def _throughput(device: Device, batch: int) -> tuple[bool, str]:
    model = Model(load_artefact(BUNDLED_MODEL), device)
    try:
        figures = model.throughput_test(batch)
    finally:
        model.release()
    return True, ", ".join(
        f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
