"""Load a quantized model, denoise on a device, collect what it counted."""

from __future__ import annotations

import functools
import json
import numbers
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...hls.artefact.model import INDEX, QuantizedModel, null_label
from ...hls.artefact.model import load as load_artefact
from ...hls.artefact.scheduler_config import takes_variance
from ...hls.common.schema import show
from ...hls.machine.config import HardwareConfig, default_config
from ...hls.machine.isa import COUNTER_NAMES
from ..common.arguments import check_deadline, check_memory, integer, real_array
from ..common.errors import DeviceLost
from ..common.limits import MOST_IMAGES, MOST_SAMPLES
from ..counting.traffic import dram_beats
from ..devices.device import Device, check_device
from ..devices.emulator import EmulatorDevice
from ..program.compiler import Program, compile_program
from .schedulers import (
    KINDS,
    Sampler,
    Scheduler,
    check_response,
    check_seed,
    check_timesteps,
    index_of,
    load_scheduler,
    standard_normal,
)
from .session import KEEPS_NOTHING, ORIGINAL, Session, check_flow, default_flow
from .watch import Watch

PIXEL_PIPELINES = (None, "DDPMPipeline", "DDIMPipeline")  # whose images are the denoiser's samples


@dataclass(frozen=True)
class Images:
    """Generated images. ``images`` uint8 [N, H, W] or [N, H, W, 3]; ``samples`` float64 [N, C, H, W] in [-1, 1]."""

    images: np.ndarray
    samples: np.ndarray
    labels: np.ndarray
    record: Record | None = None

    @staticmethod
    def of(batches: Iterable[Batch], labels: np.ndarray) -> Images:
        """Put together from batches in any order."""
        ordered = sorted(batches, key=lambda batch: batch.first)
        samples = np.concatenate([batch.samples for batch in ordered])
        records = [batch.record for batch in ordered if batch.record is not None]
        return Images(to_images(samples), samples, labels, functools.reduce(operator.add, records) if records else None)


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

    @staticmethod
    def of(program: Program, counted: list[np.ndarray], images: int) -> Record:
        """The counter records of all steps of a batch of ``images``, summed over its parts, with the names of the layers."""
        layers = program.layers
        names, modules = tuple(layer.name for layer in layers), tuple(layer.first.module for layer in layers)
        return Record(names, modules, program.by_layer(np.stack(counted)), images)


def check_run(count: int, batch: int, flow: str | None, seed: int = 0) -> tuple[int, int, int]:
    """Count, batch and seed as Python's integers; TypeError for what is none. ValueError where there is nothing to generate or
    too much, for an unknown flow, and for a seed out of [0, 2**64)."""
    count, batch, seed = integer("a count of", count), integer("a batch of", batch), integer("seed", seed)
    check_seed(seed)
    check_flow(flow)
    if count < 1 or batch < 1:
        raise ValueError(f"found {count} images in batches of {batch}, expected at least 1 of each")
    if count > MOST_IMAGES:
        raise ValueError(f"found {count} images, expected at most {MOST_IMAGES:,} in a run; use several seeds")
    if min(count, batch) > MOST_SAMPLES:
        raise ValueError(f"found a batch of {batch}, expected at most {MOST_SAMPLES:,}: descriptors count no further")
    return count, batch, seed


def labels_of(artefact: QuantizedModel, count: int, labels: Sequence[int] | None) -> np.ndarray:
    """int64 [count], taken in turn (default: all that the model was quantized for, but for its null label); ValueError, listing
    them, for another one."""
    known = [label for label in artefact.labels if label != null_label(artefact.config)] or list(artefact.labels)
    given = np.asarray(known if labels is None else labels, object)  # whatever their size
    if given.ndim != 1 or not len(given):
        raise ValueError(f"found labels of shape {given.shape}, expected a list of at least one")
    rows_of(artefact, given)
    return np.resize(given.astype(np.int64), count)


def pipeline_class(folder: Path) -> str | None:
    """The diffusers pipeline that a quantized folder is of; None where the denoiser was quantized alone."""
    path = folder / INDEX
    name = json.loads(path.read_text()).get("_class_name") if path.is_file() else None
    return None if name is None else str(name)


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether samples of ``shape`` are images of one or three channels."""
    return len(shape) == 3 and shape[0] in (1, 3)


def check_drawable(artefact: QuantizedModel) -> None:
    """ValueError where samples are no images of one or three channels, as latents are not."""
    if not is_picture(artefact.graph.sample_shape):
        shape = artefact.graph.sample_shape
        raise ValueError(
            f"the model's samples are {'x'.join(map(str, shape))}, no pictures, and the folder holds no VAE to draw them with; "
            "use it in its pipeline through ditto_zynq.host.diffusers.wrap, or quantize the whole pipeline's folder"
        )


def rows_of(artefact: QuantizedModel, labels: np.ndarray) -> np.ndarray:
    """Rows int64 [B] of conditional tables, of integer ``labels`` [B]; ValueError, listing the known ones, for a label that was
    not quantized for."""
    rows = {label: row for row, label in enumerate(artefact.labels)}
    wrong = [label for label in labels.tolist() if not _is_integer(label) or label not in rows]
    if wrong:
        known = artefact.labels
        in_turn = len(known) > 1 and known == tuple(range(len(known)))
        listed = f"0 to {known[-1]}" if in_turn else ", ".join(map(str, known))
        raise ValueError(f"found label {show(wrong[0]) if isinstance(wrong[0], str) else wrong[0]}, expected {listed}")
    return np.array([rows[label] for label in labels.tolist()], np.int64)


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho & Salimans 2022): each sample is two branches with histories of their own.

    The output is that without + ``scale`` * (that with label and context - that without). ``label`` and ``context`` [tokens,
    channels] are what stands for none.
    """

    scale: float
    label: int | None = None
    context: np.ndarray | None = None


@dataclass(frozen=True)
class Batch:
    """Samples [first, first + B) float64 [B, ...] that advanced together, and what the device counted, if it counts."""

    first: int
    samples: np.ndarray
    record: Record | None


class Model:
    """A quantized model on a device. Values do not depend on device, batch or flow: equal seeds give equal images.
    A ``flow`` of None is the fastest one for the device (:func:`.session.default_flow`).

    ``deadline_s``: how long a step may take; ``memory_mib``: the board's contiguous memory (default: PYNQ's). Whatever ends a
    run early (an error, Ctrl-C) leaves the accelerator idle and no memory taken; ``close``, or leaving a ``with`` block, gives
    the device to others.
    """

    def __init__(
        self, artefact: QuantizedModel, device: Device, deadline_s: float = 600.0, memory_mib: int | None = None
    ):
        if not isinstance(artefact, QuantizedModel):
            raise TypeError(
                f"found a model of type {type(artefact).__name__}, expected what ditto_zynq.hls.artefact.model.load returns"
            )
        check_device(device)
        self.artefact, self.device = artefact, device
        self.deadline_s, self.memory_mib = check_deadline(deadline_s), check_memory(memory_mib)
        self.watch = Watch(artefact)
        self._session: Session | None = None
        self._has_history = False

    @functools.cached_property
    def scheduler(self) -> Scheduler:
        """The sampler of the model's schedule; ValueError for one that only diffusers has, or that steps in another way than the
        one that the model is quantized for."""
        quantization, kind = self.artefact.quantization, self.artefact.quantization["scheduler"]
        steps, eta = self.artefact.graph.steps, quantization.get("eta", 0.0)
        scheduler = load_scheduler(self.artefact.scheduler, kind, steps, eta)
        check_timesteps(scheduler.timesteps.tolist(), self.artefact.timesteps)
        if quantization.get("rule"):  # models that were quantized before there were rules have none
            check_response(scheduler, **quantization["rule"])
        return scheduler

    @functools.cached_property
    def sampler(self) -> Sampler:
        """What the model's samples follow: :attr:`scheduler`, or diffusers' where only that has the schedule. ValueError where
        diffusers is not installed or cannot run it."""
        quantization, config = self.artefact.quantization, self.artefact.scheduler
        if quantization["scheduler"] in KINDS and not takes_variance(str(config.get("_class_name")), config):
            return self.scheduler
        try:
            from .diffusers_scheduler import DiffusersScheduler
        except ImportError as error:
            raise ValueError(
                f"the model is quantized for the {quantization['scheduler']} scheduler, which runs in diffusers ({error}): run "
                f"pip install 'ditto-zynq[quant]', or quantize for one of {', '.join(KINDS)}"
            ) from error
        return DiffusersScheduler(self.artefact)

    def generate(
        self,
        count: int,
        labels: Sequence[int] | None = None,
        seed: int = 0,
        batch: int = 16,
        flow: str | None = None,
        progress: bool = True,
    ) -> Images:
        """Generate ``count`` images. ``labels`` are taken in turn (default: all that the model knows)."""
        count, batch, seed = check_run(count, batch, flow, seed)
        chosen = self.labels_of(count, labels)
        return Images.of(self.batches(count, chosen, seed, batch, flow, progress), chosen)

    def execute(
        self,
        sample: np.ndarray,
        timestep: float,
        labels: Sequence[int] | None = None,
        context: np.ndarray | None = None,
    ) -> np.ndarray:
        """The model's output for samples float64 [B, ...] at one timestep of its schedule, without history.

        ``context`` [B, tokens, channels] for a model that attends to one. Raises ValueError, listing the schedule's timesteps,
        for any other one.
        """
        sample = real_array("sample", sample, (None, *self.artefact.graph.sample_shape))
        if np.ndim(timestep):
            raise ValueError(f"found timesteps of shape {np.shape(timestep)}, expected one number")
        step = index_of(self.artefact.timesteps, timestep)
        rows = rows_of(self.artefact, self.labels_of(len(sample), labels))
        session = self.session(len(sample), history=False)
        return session.run_step(sample, step, rows, ORIGINAL, context)

    def throughput_test(self, batch: int = 16, flow: str | None = None) -> dict[str, Any]:
        """One batch through the whole schedule, by the names that FINN's drivers have for it (finn, ``throughput_test``).

        ``runtime[ms]`` is wall time, so of a device without a board it is the simulation's. Where the device counts, the
        accelerator's own time and traffic follow, by its counters (``kind`` says of what they are).
        """
        # compiled, loaded and scheduled before the clock starts
        batch, *_ = check_run(batch, batch, flow)
        flow = flow or default_flow(self.device)
        program = self.session(batch * self.artefact.branches, flow not in KEEPS_NOTHING).program
        scheduler = self.sampler
        start = time.perf_counter()
        record = self.denoise_as_calibrated(batch, flow=flow).record
        seconds = time.perf_counter() - start
        result: dict[str, Any] = {
            "device": self.device.name,
            "batch_size": batch,
            "steps": len(scheduler),
            "runtime[ms]": seconds * 1e3,
            "throughput[images/s]": batch / seconds,
            "fclk[mhz]": program.config.clock_mhz,
        }
        if record is not None:
            cycles = int(record.counters["cycles"].sum())
            accelerator_s = cycles / (program.config.clock_mhz * 1e6)
            moved = int(dram_beats(record.counters).sum()) * program.config.bus_bytes
            result |= {
                "kind": "emulated",
                "accelerator[ms]": accelerator_s * 1e3,
                "accelerator throughput[images/s]": batch / accelerator_s,
                "DRAM bandwidth[MB/s]": moved / accelerator_s / 1e6,
            }
        return result

    def denoise_as_calibrated(
        self,
        count: int,
        seed: int = 0,
        flow: str | None = None,
        labels: Sequence[int] | None = None,
        advance: Callable[[], object] = lambda: None,
    ) -> Batch:
        """One batch of ``count`` samples under the conditions of calibration: its guidance, its prompts in turn.

        This is what costs are counted on. With guidance the model's batch is twice ``count``. ``labels`` are taken in turn
        (default: all that the model knows). ValueError for a model that attends to a context and has no examples of one.
        """
        count, _, seed = check_run(count, count, flow, seed)
        artefact, contexts = self.artefact, self.artefact.example_contexts
        if artefact.graph.context is not None and contexts is None:
            raise ValueError("the model attends to a context and has no examples of one; quantize it again")
        self.session(count * artefact.branches, (flow or default_flow(self.device)) not in KEEPS_NOTHING)  # it fits
        context = None if contexts is None else contexts[np.arange(count) % (len(contexts) - 1)]
        guidance = None
        if artefact.branches == 2:
            guidance = Guidance(
                artefact.quantization["guidance"],
                null_label(artefact.config),
                None if contexts is None else contexts[-1],
            )
        chosen = self.labels_of(count, labels)
        return self.denoise(np.arange(count), chosen, seed, flow, advance, context, guidance)

    def labels_of(self, count: int, labels: Sequence[int] | None) -> np.ndarray:
        """int64 [count]; see :func:`labels_of`."""
        return labels_of(self.artefact, count, labels)

    def batches(
        self,
        count: int,
        labels: np.ndarray,
        seed: int,
        batch: int,
        flow: str | None,
        progress: bool = True,
        starts: Sequence[int] | None = None,
    ) -> Iterator[Batch]:
        """Batches of at most ``batch`` samples; ``starts``: only those that begin with these samples (default: all)."""
        count, batch, seed = check_run(count, batch, flow, seed)
        chosen = range(0, count, batch) if starts is None else starts
        with _progress(progress, len(chosen) * len(self.sampler)) as advance:
            for start in chosen:
                indices = np.arange(start, min(start + batch, count))
                yield self.denoise(indices, labels[indices], seed, flow, advance)

    def denoise(
        self,
        indices: np.ndarray,
        labels: np.ndarray,
        seed: int,
        flow: str | None = None,
        advance: Callable[[], object] = lambda: None,
        context: np.ndarray | None = None,
        guidance: Guidance | None = None,
    ) -> Batch:
        """Denoise the samples with these indices, all in one batch; ``context`` float64 [B, tokens, channels] for a model that
        attends to one. With ``guidance`` the model's batch is 2 B.

        A board that loses its configuration on the way (it was switched off and on) is configured again, once, and the batch
        starts anew: its images are the same.
        """
        check_flow(flow)
        flow = flow or default_flow(self.device)
        each_step, branches = _OnceEach(advance), _Branches.of(self.artefact, labels, context, guidance)
        try:
            try:
                return self._denoise(indices, branches, seed, flow, each_step)
            except DeviceLost:
                self._recover()
                each_step.restart()
                return self._denoise(indices, branches, seed, flow, each_step)
        except BaseException:
            self.release()
            raise

    def _recover(self) -> None:
        """Configure the device again after it was lost, unless another model on it has done so already."""
        session, ownership = self._session, self.device.ownership
        with ownership.lock:
            self.release()
            if session is None or session.configuration == ownership.configurations:
                self.device.reload()

    def _denoise(
        self, indices: np.ndarray, branches: _Branches, seed: int, flow: str, advance: Callable[[], object]
    ) -> Batch:
        scheduler = self.sampler
        session = self.session(len(branches.rows), flow not in KEEPS_NOTHING)
        shape = self.artefact.graph.sample_shape

        def noise(draw: int) -> np.ndarray:
            return np.stack([standard_normal(seed, int(index), draw, shape) for index in indices])

        self.watch.context(branches.context)
        sample = scheduler.initial(noise(0))
        counted = []
        for step in range(len(scheduler)):
            asked = branches.of_all(scheduler.scaled(sample, step))
            self.watch.sample(asked, step)
            output = session.run_step(asked, step, branches.rows, flow, branches.context)
            if self.device.counting:
                counted.append(session.counters())
            step_noise = noise(step + 1) if scheduler.needs_noise(step) else None
            sample = scheduler.step(branches.guided(output), step, sample, step_noise)
            advance()
        return Batch(int(indices[0]), sample, Record.of(session.program, counted, len(indices)) if counted else None)

    def session(self, batch: int, history: bool = True) -> Session:
        """The program for this batch size, loaded on the device; the last one is kept.

        Without ``history`` there is no memory for what steps keep, which is most of it: for flows that keep nothing.
        """
        lacks_history = history and not self._has_history
        if self._session is None or self._session.program.batch != batch or lacks_history:
            self.release()
            artefact = self.artefact
            program = compile_program(
                artefact.graph, artefact.tables, self.device.config, batch, self.memory_mib, history
            )
            self._has_history = history
            self._session = Session(program, artefact, self.device, self.deadline_s)
        return self._session

    def release(self) -> None:
        """Leave the accelerator idle and its memory free; the next run loads the program again."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def close(self) -> None:
        """Release everything, and leave the device to others."""
        self.release()
        self.device.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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


BUNDLED_MODEL = Path(__file__).parents[1] / "models" / "fashion-mnist"


def to_images(samples: np.ndarray) -> np.ndarray:
    """float64 [N, C, H, W] in [-1, 1] -> uint8 [N, H, W] (one channel) or [N, H, W, C], rounded as diffusers does."""
    images = np.rint(np.clip(samples / 2 + 0.5, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return images[..., 0] if images.shape[-1] == 1 else images


@dataclass(frozen=True)
class _Branches:
    """What the model computes for each sample: itself, or itself and its unguided branch."""

    rows: np.ndarray
    context: np.ndarray | None
    scale: float | None

    @staticmethod
    def of(
        artefact: QuantizedModel, labels: np.ndarray, context: np.ndarray | None, guidance: Guidance | None
    ) -> _Branches:
        if guidance is None:
            return _Branches(rows_of(artefact, labels), context, None)
        unguided = labels if guidance.label is None else np.full_like(labels, guidance.label)
        if context is not None:
            none = np.zeros_like(context[0]) if guidance.context is None else guidance.context
            context = np.concatenate([context, np.broadcast_to(none, context.shape)])
        return _Branches(rows_of(artefact, np.concatenate([labels, unguided])), context, guidance.scale)

    def of_all(self, sample: np.ndarray) -> np.ndarray:
        return sample if self.scale is None else np.concatenate([sample, sample])

    def guided(self, output: np.ndarray) -> np.ndarray:
        if self.scale is None:
            return output
        guided, unguided = np.split(output, 2)
        return unguided + self.scale * (guided - unguided)


class _OnceEach:
    """Reports every step of a batch once, though the batch may start anew."""

    def __init__(self, report: Callable[[], object]):
        self._report, self._steps, self._reported = report, 0, 0

    def __call__(self) -> None:
        self._steps += 1
        if self._steps > self._reported:
            self._reported = self._steps
            self._report()

    def restart(self) -> None:
        self._steps = 0


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
