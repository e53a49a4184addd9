"""Load a quantized model, denoise on a device, collect what it counted."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...hls.artefact.model import QuantizedModel, null_label
from ...hls.artefact.model import load as load_artefact
from ...hls.artefact.scheduler_config import takes_variance
from ...hls.machine.boards import DEFAULT_BOARD
from ...hls.machine.config import HardwareConfig, default_config
from ..common.arguments import check_deadline, check_memory, integer, real_array
from ..common.errors import DeviceLost
from ..common.limits import MOST_IMAGES, MOST_SAMPLES
from ..counting.traffic import dram_beats
from ..devices.device import Device, check_device
from ..devices.emulator import EmulatorDevice
from ..program.compiler import compile_program
from .guidance import Branches, Guidance
from .images import Batch, Images
from .labels import labels_of, rows_of
from .progress import OnceEach, progress_bar
from .record import Record
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

BUNDLED_MODEL = Path(__file__).parents[1] / "models" / "fashion-mnist"


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
        """Generate ``count`` images, in batches of at most ``batch``. ``labels`` are taken in turn (default: all that the model
        knows); ``progress`` shows a bar of steps. TypeError or ValueError for what no run can have (:func:`check_run`)."""
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
        """The model's output, float64 [B, ...], for samples float64 [B, ...] at one timestep of its schedule, without history.

        ``context`` float64 [B, tokens, channels] for a model that attends to one. Raises ValueError, listing the schedule's
        timesteps, for any other one.
        """
        sample = real_array("sample", sample, (None, *self.artefact.graph.sample_shape))
        if np.ndim(timestep):
            raise ValueError(f"found timesteps of shape {np.shape(timestep)}, expected one number")
        step = index_of(self.artefact.timesteps, timestep)
        rows = rows_of(self.artefact, self.labels_of(len(sample), labels))
        session = self.session(len(sample), history=False)
        return session.run_step(sample, step, rows, ORIGINAL, context)

    def throughput_test(self, batch: int = 16, flow: str | None = None) -> dict[str, Any]:
        """Times one batch through the whole schedule; the names are those of FINN's drivers (finn, ``throughput_test``).

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
        return result if record is None else result | _accelerator_figures(record, program.config, batch)

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
        """Labels int64 [count] of a run of this model; see :func:`.labels.labels_of`."""
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
        """Denoise ``count`` samples with ``labels`` int64 [count], in batches of at most ``batch``, as they are asked for.
        ``starts``: only the batches that begin with these samples (default: all)."""
        count, batch, seed = check_run(count, batch, flow, seed)
        chosen = range(0, count, batch) if starts is None else starts
        with progress_bar(progress, len(chosen) * len(self.sampler)) as advance:
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
        """Denoise the samples with these ``indices`` int64 [B] and ``labels`` int64 [B], all in one batch; ``context`` float64
        [B, tokens, channels] for a model that attends to one. With ``guidance`` the model's batch is 2 B. ``advance`` is called
        after every step.

        A board that loses its configuration on the way (it was switched off and on) is configured again, once, and the batch
        starts anew: its images are the same.
        """
        check_flow(flow)
        flow = flow or default_flow(self.device)
        each_step, branches = OnceEach(advance), Branches.of(self.artefact, labels, context, guidance)
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
        self, indices: np.ndarray, branches: Branches, seed: int, flow: str, advance: Callable[[], object]
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
        device = EmulatorDevice(config or default_config(DEFAULT_BOARD), counting=counting)
    return Model(artefact, device)


def check_run(count: int, batch: int, flow: str | None, seed: int = 0) -> tuple[int, int, int]:
    """Count, batch and seed of a run, as Python's integers. TypeError for what is none; ValueError where there is nothing to
    generate or too much, for an unknown flow, and for a seed out of [0, 2**64)."""
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


def _accelerator_figures(record: Record, config: HardwareConfig, batch: int) -> dict[str, Any]:
    """What the counters of a batch say of the accelerator's own time and traffic."""
    cycles = int(record.counters["cycles"].sum())
    accelerator_s = cycles / (config.clock_mhz * 1e6)
    moved = int(dram_beats(record.counters).sum()) * config.bus_bytes
    return {
        "kind": "emulated",
        "accelerator[ms]": accelerator_s * 1e3,
        "accelerator throughput[images/s]": batch / accelerator_s,
        "DRAM bandwidth[MB/s]": moved / accelerator_s / 1e6,
    }
