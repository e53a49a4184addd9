"""What the runtime needs of a device, in PYNQ's own terms: buffers with addresses, registers, start, wait with a deadline."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import numpy as np

from ...hls.common.schema import show
from ...hls.machine.config import HardwareConfig


class Ownership:
    """Which session of this process drives a device. A session holds ``lock`` for a step, writes all registers where another one
    was the ``owner``, and says that the accelerator ``runs`` while it does.

    ``written``: those registers by which the owner recognizes the device as its own; ``configurations``: how often it was
    configured anew, before each of which all that was in its memory is gone.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.configurations = 0
        self.forget()

    def forget(self) -> None:
        """Say that registers hold what nobody knows: the next session writes them all."""
        self.owner: object | None = None
        self.written: dict[int, int] = {}
        self.runs = False

    def __reduce__(self) -> str:
        """TypeError for whatever holds a device, as models and sessions do: copies would drive one accelerator without knowing of
        each other."""
        raise TypeError(
            "a device, and what runs on it, belongs to one process and is not copied or pickled; load the model's folder again, "
            "on the same device or where it is needed"
        )

    def lose(self) -> None:
        """Say that the device was configured anew, and that nothing is left in its memory."""
        self.configurations += 1
        self.forget()


class Buffer(Protocol):
    """Contiguous memory that host and accelerator share: ``data`` uint8 [nbytes] at physical address ``address``."""

    @property
    def data(self) -> np.ndarray: ...

    @property
    def address(self) -> int: ...

    def flush(self, start: int = 0, stop: int | None = None) -> None:
        """Make what the host wrote to bytes [start, stop) visible to the accelerator."""

    def invalidate(self, start: int = 0, stop: int | None = None) -> None:
        """Make what the accelerator wrote to bytes [start, stop) visible to the host."""

    def free(self) -> None:
        """Give the memory back."""


class Device(Protocol):
    """An accelerator. Register offsets are those of :mod:`ditto_zynq.hls.machine.isa`."""

    name: str
    config: HardwareConfig
    counting: bool  # whether it fills counter records
    check: bool  # whether registers are read back in every step, not only in the first and the last one of a run
    ownership: Ownership

    def allocate(self, nbytes: int) -> Buffer:
        """Contiguous memory. DeviceError, with what is free, where there is not as much."""

    def write_register(self, offset: int, value: int) -> None:
        """START in CONTROL runs the program once."""

    def read_register(self, offset: int) -> int: ...

    def wait(self, deadline_s: float) -> None:
        """Return when the program has ended; DeviceTimeout after ``deadline_s`` seconds."""

    def stop(self) -> None:
        """Make the accelerator idle, whatever it does: its memory may be given back after that."""

    def reload(self) -> None:
        """Configure the accelerator again, after it was lost. Buffers are gone too."""

    def free_memory(self) -> int | None:
        """Bytes of contiguous memory that are free; None where nobody knows."""

    def close(self) -> None:
        """Leave the device to others."""


_NEEDED = (
    "name",
    "config",
    "counting",
    "check",
    "ownership",
    "allocate",
    "write_register",
    "read_register",
    "wait",
    "stop",
)


def check_device(device: Any) -> None:
    """TypeError for what has not the interface of a :class:`Device`, as the name of one has not."""
    if isinstance(device, type) or not all(hasattr(device, name) for name in _NEEDED):
        raise TypeError(
            f"found device {show(device)} ({type(device).__name__}), expected an opened one: "
            "ditto_zynq.host.devices.opening.open_device('emulator', config) returns one"
        )
