"""What devices raise."""

from __future__ import annotations


class DeviceError(RuntimeError):
    """Raised where a device refuses a program, has too little memory, or fails."""


class DeviceRefused(DeviceError):
    """Raised where a board that is served over the network does not do what it is asked for."""


class DeviceTimeout(DeviceError):
    """Raised where the accelerator did not finish in time; ``registers``: what its registers held then."""

    def __init__(self, message: str, registers: dict[str, int]):
        super().__init__(message)
        self.registers = registers


class DeviceLost(DeviceError):
    """Raised where what the accelerator was given is gone: the board was switched off and on, got another bitstream, or another
    client of it (not of this process, whose sessions take turns) drives it."""
