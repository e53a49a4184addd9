"""The C simulation behind the ``Device`` interface: the kernels' C++ runs the same programs in the same memory."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...hls.build.csim import CSimulation, check_compiler, check_types
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import ERROR, PROGRESS, Region
from ..common.memory import SLACK
from .simulated import Run, SimulatedDevice


class CSimDevice(SimulatedDevice):
    """The kernels' C++, compiled by g++, as a device.

    ``types``: "native", or "bits" for the exact widths of the hardware; ``cache``: where compiled simulations are kept (default:
    the user's). Raises CannotCompile without g++ or headers.
    """

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
        """Run a checked program on its memory, until it ends or the accelerator is reset."""
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
        """End the run at its next descriptor; registers are as they are before anything ran."""
        self._stop.value = 1
        super().reset()
