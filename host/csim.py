"""The C simulation behind the ``Device`` interface: the kernels' C++ runs the same programs in the same memory."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..hls.config import HardwareConfig
from ..hls.csim import CSimulation, check_compiler, check_types
from ..hls.isa import ERROR, PROGRESS, Region
from .arguments import integer
from .device import DeviceError
from .runtime import check_run
from .schedulers import standard_normal
from .session import DIFFERENCE
from .simulated import SLACK, Run, SimulatedDevice

if TYPE_CHECKING:
    from .runtime import Model


class CSimDevice(SimulatedDevice):
    """``types``: "native", or "bits" for the exact widths of the hardware. Raises CannotCompile without g++ or headers."""

    def __init__(
        self,
        config: HardwareConfig,
        types: str = "native",
        cache: Path | None = None,
        announce: Callable[[str], object] = lambda text: None,
    ):
        check_types(types)
        check_compiler()
        self._stop = ctypes.c_uint32()  # of the latest run
        super().__init__("csim", config, counting=True)
        self._arguments = types, cache, announce

    @functools.cached_property
    def simulation(self) -> CSimulation:
        """Compiled when the first program starts, so that what does not fit the configuration is refused before."""
        return CSimulation(self.config, *self._arguments)

    def execute(self, run: Run) -> None:
        memory = run.memory | {Region.PROGRAM: run.descriptors.view(np.uint8)}
        sizes = [memory[region].size - (SLACK if region != Region.PROGRAM else 0) for region in Region]
        addresses = [memory[region].ctypes.data for region in Region]
        progress, stop = ctypes.c_uint32(), ctypes.c_uint32()
        self._stop = stop
        if self.registers is not run.registers:
            return  # the accelerator was reset
        try:
            error = self.simulation.run(addresses, sizes, len(run.descriptors), progress, stop)
        finally:
            run.registers[PROGRESS] = progress.value
        run.registers[ERROR] = error

    def reset(self) -> None:
        self._stop.value = 1
        super().reset()


def compare(simulated: Model, emulated: Model, steps: int, batch: int, seed: int) -> Iterator[str]:
    """Run the first ``steps`` of a denoising run on both, with differences; yields a line per step.

    Raises DeviceError at the first byte of ACTIVATIONS, where all tensors lie, that differs.
    """
    batch, _, seed = check_run(batch, batch, DIFFERENCE, seed)
    artefact, graph = emulated.artefact, emulated.artefact.graph
    if not 1 <= integer("steps", steps) <= graph.steps:
        raise ValueError(f"found {steps} steps, expected 1 to {graph.steps}")
    sessions = simulated.session(batch), emulated.session(batch)  # before there is noise of a batch that does not fit
    labels = np.arange(batch) % graph.labels
    context = None
    if graph.context is not None and graph.context_shape is not None:
        shape = (batch, *graph.context_shape)
        context = artefact.scales[graph.context][0] * 32 * np.random.default_rng(seed).standard_normal(shape)
    scheduler = emulated.sampler
    sample = scheduler.initial(
        np.stack([standard_normal(seed, index, 0, graph.sample_shape) for index in range(batch)])
    )
    for step in range(steps):
        asked = scheduler.scaled(sample, step)
        outputs = [session.run_step(asked, step, labels, DIFFERENCE, context) for session in sessions]
        found, expected = (session.buffers[Region.ACTIVATIONS].data for session in sessions)
        if not np.array_equal(found, expected):
            byte = int(np.flatnonzero(found != expected)[0])
            raise DeviceError(
                f"step {step}: byte {byte} of ACTIVATIONS is {found[byte]}, in the emulator {expected[byte]}"
            )
        noise = None
        if scheduler.needs_noise(step):
            noise = np.stack([standard_normal(seed, index, step + 1, graph.sample_shape) for index in range(batch)])
        sample = scheduler.step(outputs[1], step, sample, noise)
        yield f"step {step}: {found.size:,} bytes of activations equal"
