"""What the runtime needs of a device, in PYNQ's own terms: buffers with addresses, registers, start, wait with a deadline."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..hls.config import HardwareConfig


class DeviceError(RuntimeError):
    """The device refused a program, failed or did not finish in time."""


class Buffer(Protocol):
    """Contiguous memory that host and accelerator share: ``data`` uint8 [nbytes] at physical address ``address``."""

    @property
    def data(self) -> np.ndarray: ...

    @property
    def address(self) -> int: ...

    def flush(self) -> None:
        """Make what the host wrote visible to the accelerator."""

    def invalidate(self) -> None:
        """Make what the accelerator wrote visible to the host."""

    def free(self) -> None:
        """Give the memory back."""


class Device(Protocol):
    """An accelerator. Register offsets are those of :mod:`ditto_zynq.hls.isa`."""

    name: str
    config: HardwareConfig
    counting: bool  # whether it fills counter records

    def allocate(self, nbytes: int) -> Buffer: ...

    def write_register(self, offset: int, value: int) -> None: ...

    def read_register(self, offset: int) -> int: ...

    def start(self) -> None:
        """Run the program once."""

    def wait(self, deadline_s: float) -> None:
        """Return when the program has ended; DeviceError with a diagnosis after ``deadline_s`` seconds."""
