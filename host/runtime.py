"""Load a quantized model, denoise on a device, collect what it counted."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..hls.arithmetic import CODE_RANGE, decode_output, encode_input
from ..hls.artefact import QuantizedModel
from ..hls.artefact import load as load_artefact
from ..hls.config import HardwareConfig, default_config
from ..hls.isa import (
    CONFIG_HASH,
    CONTROL,
    COUNTER_NAMES,
    COUNTERS,
    DEFO_FIELDS,
    DESCRIPTOR_COUNT,
    START,
    Reference,
    Region,
    base_registers,
)
from .compiler import Program, compile_program
from .defo import CANDIDATES
from .device import Buffer, Device, DeviceError
from .emulator import EmulatorDevice
from .schedulers import Scheduler, load_scheduler, standard_normal

ORIGINAL, DIFFERENCE, SPATIAL, DEFO, DEFO_PLUS = "original", "difference", "spatial", "defo", "defo+"
FLOWS = (ORIGINAL, DIFFERENCE, SPATIAL, DEFO, DEFO_PLUS)
KEEPS_NOTHING = (ORIGINAL, SPATIAL)
_REFERENCES = {
    ORIGINAL: Reference.ZERO,
    DIFFERENCE: Reference.PREVIOUS_STEP,
    SPATIAL: Reference.NEIGHBOUR,
    DEFO: Reference.DEFO,
    DEFO_PLUS: Reference.DEFO_PLUS,
}
DEADLINE_S = 600.0


@dataclass(frozen=True)
class Images:
    """Generated images. ``images`` uint8 [N, H, W] or [N, H, W, 3]; ``samples`` float64 [N, C, H, W] in [-1, 1]."""

    images: np.ndarray
    samples: np.ndarray
    labels: np.ndarray
    record: Record | None = None


@dataclass(frozen=True)
class Record:
    """What the device counted: ``counters`` [steps, operations] of counter records, summed over batches of ``samples``."""

    names: tuple[str, ...]
    modules: tuple[str, ...]
    counters: np.ndarray
    samples: int

    def __add__(self, other: Record) -> Record:
        total = self.counters.copy()
        for name in COUNTER_NAMES:
            total[name] += other.counters[name]
        return Record(self.names, self.modules, total, self.samples + other.samples)


@dataclass(frozen=True)
class Batch:
    """Samples float64 [B, C, H, W] that advanced together, and what the device counted for them, if it counts."""

    samples: np.ndarray
    record: Record | None


class Model:
    """A quantized model on a device. Values do not depend on device, batch or flow: equal seeds give equal images."""

    def __init__(self, artefact: QuantizedModel, device: Device):
        self.artefact = artefact
        self.device = device
        quantization = artefact.quantization
        self.scheduler: Scheduler = load_scheduler(
            artefact.scheduler, quantization["scheduler"], artefact.graph.steps, quantization.get("eta", 0.0)
        )
        if tuple(self.scheduler.timesteps.tolist()) != artefact.timesteps:
            raise ValueError("the model's timesteps are not those of its scheduler configuration; quantize it again")
        self._session: Session | None = None

    def generate(
        self,
        count: int,
        labels: Sequence[int] | None = None,
        seed: int = 0,
        batch: int = 16,
        flow: str = DIFFERENCE,
        progress: bool = True,
    ) -> Images:
        """Generate ``count`` images. ``labels`` are taken in turn (default: all that the model knows)."""
        chosen = self.labels_of(count, labels)
        batches = list(self.batches(count, chosen, seed, batch, flow, progress))
        samples = np.concatenate([part.samples for part in batches])
        records = [part.record for part in batches if part.record is not None]
        return Images(to_images(samples), samples, chosen, functools.reduce(operator.add, records) if records else None)

    def evaluate(self, sample: np.ndarray, timestep: int, labels: Sequence[int] | None = None) -> np.ndarray:
        """The model's output for samples float64 [B, C, H, W] at one timestep of its schedule, without history.

        Raises ValueError, listing the schedule's timesteps, for any other one.
        """
        step = self.scheduler.index_of(timestep)
        return self.session(len(sample)).run_step(sample, step, self.labels_of(len(sample), labels), ORIGINAL)

    def labels_of(self, count: int, labels: Sequence[int] | None) -> np.ndarray:
        """int64 [count]; ValueError for a label that the model does not know."""
        known = self.artefact.graph.labels
        given = np.asarray(range(known) if labels is None else labels, np.int64)
        wrong = given[(given < 0) | (given >= known)]
        if wrong.size:
            raise ValueError(f"found label {wrong[0]}, expected 0 to {known - 1}")
        return np.resize(given, count)

    def batches(
        self,
        count: int,
        labels: np.ndarray,
        seed: int,
        batch: int,
        flow: str,
        progress: bool = True,
        first: int = 0,
    ) -> Iterator[Batch]:
        """Batches of at most ``batch`` samples, from sample ``first`` on."""
        if flow not in FLOWS:
            raise ValueError(f"found execution flow {flow!r}, expected one of {', '.join(FLOWS)}")
        if count < 1 or batch < 1:
            raise ValueError(f"found {count} images in batches of {batch}, expected at least 1 of each")
        with _progress(progress, -(-(count - first) // batch) * len(self.scheduler)) as advance:
            for start in range(first, count, batch):
                indices = np.arange(start, min(start + batch, count))
                yield self.denoise(indices, labels[indices], seed, flow, advance)

    def denoise(
        self,
        indices: np.ndarray,
        labels: np.ndarray,
        seed: int,
        flow: str = DIFFERENCE,
        advance: Callable[[], object] = lambda: None,
    ) -> Batch:
        """Denoise the samples with these indices, all in one batch."""
        session = self.session(len(indices))
        shape = self.artefact.graph.sample_shape

        def noise(draw: int) -> np.ndarray:
            return np.stack([standard_normal(seed, int(index), draw, shape) for index in indices])

        sample = noise(0)
        counted = []
        for step in range(len(self.scheduler)):
            output = session.run_step(sample, step, labels, flow)
            if self.device.counting:
                counted.append(session.counters())
            step_noise = noise(step + 1) if self.scheduler.needs_noise(step) else None
            sample = self.scheduler.step(output, step, sample, step_noise)
            advance()
        return Batch(sample, session.record(counted) if counted else None)

    def session(self, batch: int) -> Session:
        """The program for this batch size, loaded on the device; the last one is kept."""
        if self._session is None or self._session.program.batch != batch:
            if self._session is not None:
                self._session.free()
            program = compile_program(self.artefact.graph, self.artefact.tables, self.device.config, batch)
            self._session = Session(program, self.artefact, self.device)
        return self._session


@dataclass(frozen=True)
class _LastStep:
    """What the kept operands and the constant tensors in a session's memory are of."""

    step: int
    flow: str
    context: np.ndarray | None


def _equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


class Session:
    """One program on a device: its buffers, and the loop's side of a step."""

    def __init__(self, program: Program, artefact: QuantizedModel, device: Device):
        found = device.read_register(CONFIG_HASH)
        if found != program.config.register_hash:
            raise DeviceError(
                f"the device has configuration {found:#010x}, the program is for {program.config.register_hash:#010x}; "
                "compile for the device's configuration"
            )
        self.program, self.artefact, self.device = program, artefact, device
        self._last: _LastStep | None = None
        self.buffers: dict[Region, Buffer] = {region: device.allocate(size) for region, size in program.sizes.items()}
        self._write(Region.PROGRAM, program.descriptors.view(np.uint8))
        self._write(Region.WEIGHTS, program.weights)
        for region, buffer in self.buffers.items():
            for register in base_registers(region):
                device.write_register(register, buffer.address & 0xFFFFFFFF)
                device.write_register(register + 4, buffer.address >> 32)
        device.write_register(DESCRIPTOR_COUNT, len(program.descriptors))

    def run_step(
        self, sample: np.ndarray, step: int, labels: np.ndarray, flow: str, context: np.ndarray | None = None
    ) -> np.ndarray:
        """One model evaluation: sample float64 [B, C, H, W] -> output float64 [B, C, H, W].

        ``context`` float64 [B, H, W, C], for a model that has one. What a flow refers to must have run: ValueError for a step
        with history whose previous step was not the last one of this session, with the same context.
        """
        graph = self.program.graph
        continues = self._check_history(step, flow, context)
        group = graph.group_of_step[step]
        scale = self.artefact.scales[graph.input][group]
        self._tensor(graph.input)[...] = encode_input(sample, scale, graph.input_parts)
        if graph.context is not None and not continues:
            self._tensor(graph.context)[...] = self._context_codes(context)
        self.buffers[Region.ACTIVATIONS].flush()

        keeps = flow not in KEEPS_NOTHING and step + 1 < graph.steps
        references = dict.fromkeys((node.name for node in graph.linear_nodes), reference_of(flow, step))
        self._write(Region.PARAMETERS, self.program.parameters.block(step, labels, references, keeps, continues))
        self.device.write_register(CONTROL, START)
        self.device.wait(DEADLINE_S)
        self.buffers[Region.ACTIVATIONS].invalidate()
        self._last = _LastStep(step, flow, None if context is None else context.copy())
        return decode_output(self._tensor(graph.output), self.artefact.scales[graph.output][group], graph.output_parts)

    def _check_history(self, step: int, flow: str, context: np.ndarray | None) -> bool:
        """Whether this step continues the run of the last one."""
        last, self._last = self._last, None  # a step that fails leaves no history
        continues = last is not None and last.step + 1 == step and _equal(last.context, context)
        needed = step > 0 and flow not in KEEPS_NOTHING
        if needed and not (continues and last is not None and last.flow == flow):
            found = "no step has run" if last is None else f"the last one was step {last.step} of flow {last.flow}"
            raise ValueError(
                f"step {step} of flow {flow} refers to step {step - 1}, but {found} (with the same context); run all "
                f"steps from 0 in order, or use flow {ORIGINAL}"
            )
        return continues

    def _context_codes(self, context: np.ndarray | None) -> np.ndarray:
        name = self.program.graph.context
        assert name is not None
        shape = (self.program.batch, *self.program.graph.tensors[name].shape)
        if context is None or context.shape != shape:
            found = None if context is None else context.shape
            raise ValueError(f"found a context of shape {found}, expected {shape}")
        return np.clip(np.rint(context / self.artefact.scales[name][0]), *CODE_RANGE)

    def counters(self) -> np.ndarray:
        """Counter records of the last step, one per descriptor (a copy). Followers show their leader's entry of Defo's table."""
        self.buffers[Region.COUNTERS].invalidate()
        count = len(self.program.operations)
        records = self.buffers[Region.COUNTERS].data[: count * COUNTERS.itemsize].view(COUNTERS).copy()
        for field in DEFO_FIELDS:
            records[field.name] = records[field.name][self.program.leaders]
        return records

    def record(self, counted: list[np.ndarray]) -> Record:
        """The counter records of all steps of this batch, summed over its parts, with the names of the layers."""
        layers = self.program.layers
        names, modules = tuple(layer.name for layer in layers), tuple(layer.first.module for layer in layers)
        return Record(names, modules, self.program.by_layer(np.stack(counted)), self.program.batch)

    def codes(self, name: str) -> np.ndarray:
        """A copy of a tensor that is in memory after the step, [B, H, W, C]; others may have overwritten it."""
        return self._tensor(name).copy()

    def _tensor(self, name: str) -> np.ndarray:
        tensor, placement = self.program.graph.tensors[name], self.program.placements[name]
        height, width, channels = tensor.shape
        item, pitch = tensor.dtype.itemsize, placement.pitch
        memory = self.buffers[Region.ACTIVATIONS].data[placement.offset :]
        strides = (height * width * pitch * item, width * pitch * item, pitch * item, item)
        shape = (self.program.batch, height, width, channels)
        return np.ndarray(shape, tensor.dtype, memory, 0, strides)

    def _write(self, region: Region, data: np.ndarray) -> None:
        self.buffers[region].data[: data.size] = data
        self.buffers[region].flush()

    def free(self) -> None:
        for buffer in self.buffers.values():
            buffer.free()


def load(
    folder: Path | str | None = None,
    device: Device | None = None,
    config: HardwareConfig | None = None,
    counting: bool = False,
) -> Model:
    """Load a quantized model (default: the bundled one) onto ``device`` (default: the emulator of ``config``).

    ``counting`` makes the default emulator fill counter records. Raises ArtefactError for a folder that is no such model.
    """
    artefact = load_artefact(BUNDLED_MODEL if folder is None else folder)
    if device is None:
        device = EmulatorDevice(config or default_config("zcu104"), counting=counting)
    return Model(artefact, device)


def reference_of(flow: str, step: int) -> Reference:
    """What all linear operators are asked to refer to. Defo tries each reference for a step, then decides itself."""
    if flow == DIFFERENCE and step == 0:
        return Reference.ZERO
    asked = _REFERENCES[flow]
    tried = CANDIDATES.get(asked, ())
    return tried[step] if step < len(tried) else asked


BUNDLED_MODEL = Path(__file__).parent / "models" / "fashion-mnist"


def to_images(samples: np.ndarray) -> np.ndarray:
    """float64 [N, C, H, W] in [-1, 1] -> uint8 [N, H, W] (one channel) or [N, H, W, C], rounded as diffusers does."""
    images = np.rint(np.clip(samples / 2 + 0.5, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return images[..., 0] if images.shape[-1] == 1 else images


class _progress:
    """A tqdm bar of denoising steps, or nothing."""

    def __init__(self, shown: bool, total: int):
        self.shown, self.total = shown, total

    def __enter__(self) -> Callable[[], object]:
        if not self.shown:
            return lambda: None
        from tqdm import tqdm

        self.bar = tqdm(total=self.total, desc="denoise", unit="step")
        return self.bar.update

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self.bar.close()
