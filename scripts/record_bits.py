"""Hashes of all that the engine computes and counts, to be compared while the inside is rebuilt; goes when that is done.

``record_bits.py scripts/recorded_bits.json`` compares with what was recorded before the first change: exit code 1 names what
differs. A FILE that is not there is written. Images and counter records of the bundled model in every flow; tensors, counter
records, descriptors and memory of random graphs on several configurations; costs of an architecture. Four minutes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from ditto_zynq.hls.artefact.model import QuantizedModel
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.machine.config import HardwareConfig, default_config
from ditto_zynq.host import load
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.runtime.session import FLOWS, Session, reference_of
from ditto_zynq.host.studies.compare import compare, compare_architecture
from tqdm import tqdm

GRAPHS = 60
BASE = default_config("zcu104")
CONFIGS = (
    BASE,
    default_config("ultra96v2"),
    default_config("pynq-z2"),
    HardwareConfig(  # chunks, passes that are not resident, blocks of one row
        cores=3,
        lanes=3,
        oc_tile=8,
        bus_bits=64,
        digit_depth=64,
        positions=40,
        accumulator_depth=12,
        weight_depth=20,
        row_bytes=128,
        staging_depth=6,
        gather_bytes=120,
        sample_groups=2,
    ),
    HardwareConfig(  # primes wherever they are allowed
        cores=5,
        lanes=7,
        oc_tile=32,
        digit_depth=131,
        positions=127,
        accumulator_depth=61,
        weight_depth=67,
        row_bytes=496,
        staging_depth=31,
        gather_bytes=251,
        sample_groups=3,
    ),
)


def digest(*arrays: np.ndarray) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def counters(records: np.ndarray) -> dict[str, str]:
    return {name: digest(records[name]) for name in records.dtype.names or ()}


def bundled(config: HardwareConfig, name: str) -> Iterator[tuple[str, object]]:
    for flow in FLOWS:
        with load(device=EmulatorDevice(config)) as model:
            images = model.generate(5, range(10), 7, 3, flow, progress=False)
        assert images.record is not None
        yield f"bundled {name} {flow}", {"images": digest(images.samples), **counters(images.record.counters)}


def graphs() -> Iterator[tuple[str, object]]:
    for seed in range(GRAPHS):
        build, graph = random_unet(seed)
        build_again = random_unet(seed)[0]
        reference, codes = Interpreter(graph, build.tables), build_again.codes(2)
        labels = build_again.random.integers(0, graph.labels, 2)
        context = build_again.codes(2, graph.context) if graph.context else None
        runs = []
        for step in range(graph.steps):
            runs.append(reference.step(codes, step, labels, reference_of("original", step), context))
            codes = build_again.next_codes(codes)
        yield f"reference {seed}", digest(*(run[name] for run in runs for name in sorted(run)))
        config, flow = CONFIGS[seed % len(CONFIGS)], FLOWS[seed // len(CONFIGS) % len(FLOWS)]
        yield f"program {seed} {config.board} {flow}", executed(build, graph, config, flow)


def executed(build: GraphBuilder, graph, config: HardwareConfig, flow: str) -> object:
    scales = {name: np.ones(graph.groups) for name in graph.tensors}
    artefact = QuantizedModel(graph, build.tables, scales, {}, {}, {})
    program = compile_program(graph, build.tables, config, 2)
    session = Session(program, artefact, EmulatorDevice(config))
    codes = build.codes(2)
    labels = build.random.integers(0, graph.labels, 2)
    context = build.codes(2, graph.context) if graph.context else None
    given = None if context is None else graph.decode_context(context, 1.0)
    outputs, counted, memory = [], [], []
    for step in range(graph.steps):
        outputs.append(session.run_step(codes.transpose(0, 3, 1, 2).astype(np.float64), step, labels, flow, given))
        counted.append(session.counters())
        memory += [buffer.data.copy() for _, buffer in sorted(session.buffers.items())]
        codes = build.next_codes(codes)
    return {
        "outputs": digest(*outputs),
        "descriptors": digest(program.descriptors.view(np.uint8)),
        "weights": digest(program.weights),
        "memory": digest(*memory),
        **counters(np.stack(counted)),
    }


def costs() -> Iterator[tuple[str, object]]:
    artefact = load().artefact
    for name, found in (
        ("compare", compare(artefact, BASE, 2)),
        ("architecture", compare_architecture("cifar10", artefact, BASE, 2)),
    ):
        yield name, hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()[:16]


def everything() -> dict[str, object]:
    def parts() -> Iterator[tuple[str, object]]:
        yield from graphs()
        yield from bundled(BASE, "zcu104")
        yield from bundled(replace(BASE, channel_groups=1), "one group")
        yield from costs()

    return dict(tqdm(parts()))


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    path = Path(sys.argv[1])
    found = json.loads(json.dumps(everything()))
    if not path.exists():
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{path}: {len(found)} records")
        return
    expected = json.loads(path.read_text())
    different = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    for name in sorted(different):
        print(f"{name}: found {found.get(name)}, expected {expected.get(name)}")
    print(f"{len(found)} records, {len(different)} differ")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
