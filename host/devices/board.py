"""The accelerator on a PYNQ device: a board, a board over the network, or an emulated one. Real pynq in all of them.

Works with pynq 3.1 and 4.0. What pynq leaves to its users is done here: every wait has a deadline, a .bit is found by its
content (pynq 4.0.0 does not send a second file of the same name to a remote board), clocks of Zynq-7000 are set although pynq's
parser finds no frequency, and slices of remote buffers, which it would write to the wrong place, are transferred whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pynq

from ...hls.build.bitstreams import SUFFIXES, Bitstream
from ...hls.build.handoff import ACCELERATOR, GLOBAL_INTERRUPTS, INTERRUPT_ENABLE, INTERRUPT_STATUS, RESET, VLNV
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import CONFIG_HASH, CONTROL, DESCRIPTOR_COUNT, IDLE, START, registers
from ..common.errors import DeviceError, DeviceLost, DeviceRefused, DeviceTimeout
from .device import Ownership
from .lock import BoardLock

try:
    from grpc import RpcError
except ImportError:  # pynq 3.1 has no remote boards

    class RpcError(Exception):  # type: ignore[no-redef]
        """An error of gRPC's, which is never raised where gRPC is not installed."""


ALLOCATION_ERRORS = (RuntimeError, MemoryError, RpcError)  # of pynq's, for too little memory
SILENCE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")  # statuses of gRPC's where nobody answered
EXHAUSTED = "RESOURCE_EXHAUSTED"  # the one for too little memory
GRACE_S = 2.0  # that a running step has to end by itself before it is reset
START_UP_S = 60.0  # for the empty program after a reset, which takes microseconds unless the machine is busy
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 2e-5, 2e-4  # between two looks at the control register


@dataclass(frozen=True)
class Clock:
    """What polling needs of time, in seconds: a test gives one that only moves when it says so."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep


@contextlib.contextmanager
def answering(name: str) -> Iterator[None]:
    """DeviceError where a board over the network does not answer, DeviceRefused where it refuses what it is asked for."""
    try:
        yield
    except RpcError as error:
        reason = error.details() if hasattr(error, "details") else error
        if hasattr(error, "code") and error.code().name not in SILENCE:
            raise DeviceRefused(f"{name} refused: {reason}") from error
        raise DeviceError(
            f"{name} does not answer ({reason}); see that it is on and reachable, then run the same command again (finished "
            "images are kept)"
        ) from error


class DittoAccelerator(pynq.DefaultIP):
    """pynq's driver of the accelerator, bound to its VLNV: ``overlay.ditto_top_0``."""

    bindto = [VLNV]  # noqa: RUF012 (pynq's metaclass reads it)

    @property
    def is_idle(self) -> bool:
        """Whether it runs no program."""
        return bool(self.read(CONTROL) & IDLE)

    def contents(self) -> dict[str, int]:
        """All registers that can be read, by name."""
        readable = {"control": CONTROL, **registers()}
        return {name: int(self.read(offset)) for name, offset in readable.items()}


class BoardBuffer:
    """Contiguous memory of a pynq device, named in errors as that of the ``board``."""

    def __init__(self, memory: Any, board: str):
        self._memory, self._board = memory, board
        self._is_remote = not isinstance(memory, pynq.buffer.PynqBuffer)
        self.data: np.ndarray = np.asarray(memory)
        self.address = int(memory.device_address)

    def flush(self, start: int = 0, stop: int | None = None) -> None:
        """Make what the host wrote to bytes [start, stop) visible to the accelerator. DeviceError where nobody answers."""
        with answering(self._board):
            self._part(start, stop).flush()

    def invalidate(self, start: int = 0, stop: int | None = None) -> None:
        """Make what the accelerator wrote to bytes [start, stop) visible to the host. DeviceError where nobody answers."""
        with answering(self._board):
            self._part(start, stop).invalidate()

    def _part(self, start: int, stop: int | None) -> Any:
        """pynq 4.0.0 sends a slice of a remote buffer to the buffer's first bytes, so that one moves whole."""
        return self._memory if self._is_remote else self._memory[start:stop]

    def free(self) -> None:
        """Give the memory back to pynq."""
        self.data = np.zeros(0, np.uint8)  # the memory is unmapped now
        with answering(self._board):
            self._memory.freebuffer()


class BoardDevice:
    """The :class:`~ditto_zynq.host.devices.device.Device` of a pynq device, which is configured with ``bitstream`` and locked.

    ``interrupts``: wait for the accelerator's interrupt instead of polling (not on remote boards, and not where an event loop
    runs already, as in a notebook). ``counting``: whether the accelerator fills counter records; boards always do. ``check``:
    whether registers are read back in every step. ``clock``: the time by which deadlines pass while it polls.
    """

    def __init__(
        self,
        bitstream: Bitstream,
        device: pynq.Device | None = None,
        interrupts: bool = False,
        counting: bool = True,
        check: bool = False,
        cache: Path | None = None,
        locks: Path | None = None,
        clock: Clock = Clock(),
    ):
        self.config: HardwareConfig = bitstream.config
        self.clock = clock
        self.counting = counting
        self.check = check
        self.interrupts = interrupts
        self.ownership = Ownership()
        self._pynq_device = pynq.Device.active_device if device is None else device
        self.name = _name_of(self._pynq_device)
        self._lock = BoardLock(self.name, locks)
        try:
            pynq.Device.active_device = self._pynq_device  # pynq looks interrupts up there
            self._overlay = _overlay(_by_content(bitstream, cache), self._pynq_device, self.config)
            self.reload()
        except BaseException:
            self._lock.release()
            raise

    def reload(self) -> None:
        """Configure the programmable logic; the accelerator is idle after it, with the configuration it was built for."""
        self.ownership.lose()
        try:
            with answering(self.name):
                self._overlay.download()
        except PermissionError as error:
            raise DeviceError(
                f"pynq cannot write {error.filename}: it keeps state in its own folder; install it where you may write, in a "
                "virtual environment for example"
            ) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pynq warns of interrupts that it cannot have; then they are None
            self._ip: DittoAccelerator = getattr(self._overlay, ACCELERATOR)
            self._reset_gpio = getattr(self._overlay, RESET)
        if not self._ip.is_idle:
            raise DeviceError(f"{self.name} is not idle after it was configured; switch the board off and on")
        self._start_up()

    def _start_up(self) -> None:
        """Refuse, after a reset, an accelerator that is not the expected one, before it gets a program.

        It says what it is when it runs; its first program is empty and touches no memory.
        """
        if self.interrupts:
            self._enable_interrupts()
        self.write_register(DESCRIPTOR_COUNT, 0)
        self.write_register(CONTROL, START)
        self.wait(START_UP_S)
        found, expected = self.read_register(CONFIG_HASH), self.config.register_hash
        if found != expected:
            raise DeviceError(
                f"{self.name} reports configuration {found:#010x} after loading {self._overlay.bitfile_name}, expected "
                f"{expected:#010x}; build that one with 'ditto-zynq build --board {self.config.board} -o build --publish "
                "bitstreams'"
            )

    def allocate(self, nbytes: int) -> BoardBuffer:
        """Contiguous memory. DeviceError, with what is free, where there is not as much in one piece."""
        try:
            return BoardBuffer(pynq.allocate((nbytes,), np.uint8, target=self._pynq_device), self.name)
        except ALLOCATION_ERRORS as error:
            if isinstance(error, RpcError) and error.code().name != EXHAUSTED:
                with answering(self.name):
                    raise
            free = self.free_memory()
            known = "an unknown amount" if free is None else f"{free / 2**20:.1f} MiB"
            raise DeviceError(
                f"found {known} of contiguous memory free on {self.name}, expected {nbytes / 2**20:.1f} MiB in one piece "
                f"({error}); use a smaller --batch, close other programs that hold buffers, or enlarge CMA"
            ) from error

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit register. DeviceError where nobody answers."""
        with answering(self.name):
            self._ip.write(offset, int(value))

    def read_register(self, offset: int) -> int:
        """Read a 32-bit register. DeviceError where nobody answers."""
        with answering(self.name):
            return int(self._ip.read(offset))

    def wait(self, deadline_s: float) -> None:
        """Return when the accelerator is idle. DeviceTimeout, with its registers, where it is not in ``deadline_s``; DeviceLost
        where it has lost its configuration."""
        with answering(self.name):
            if not (self._wait_for_interrupt(deadline_s) if self.interrupts else self._poll(deadline_s)):
                raise DeviceTimeout(f"{self.name} did not finish in {deadline_s:g} s", self._ip.contents())

    def _poll(self, deadline_s: float) -> bool:
        end, pause = self.clock.now() + deadline_s, SHORTEST_PAUSE_S
        while not (control := self._ip.read(CONTROL)) & IDLE:
            if control == 0 and self._ip.read(CONFIG_HASH) != self.config.register_hash:  # neither idle nor running
                raise DeviceLost(
                    f"{self.name} lost its configuration while it ran: it was switched off and on, or another client of it has "
                    "configured it; run the same command again, with nobody else on the board"
                )
            if self.clock.now() > end:
                return False
            self.clock.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE_S)
        return True

    def _enable_interrupts(self) -> None:
        # Of a remote board pynq may have made one that raises when it is waited for.
        is_remote = self._pynq_device.has_capability("REMOTE")
        if is_remote or getattr(self._ip, "interrupt", None) is None:
            raise DeviceError(
                f"pynq offers no interrupts on {self.name} (it never does on remote boards); poll instead"
            )
        self._ip.write(GLOBAL_INTERRUPTS, 1)
        self._ip.write(INTERRUPT_ENABLE, 1)

    def _wait_for_interrupt(self, deadline_s: float) -> bool:
        async def wait() -> None:
            while not self._ip.is_idle:
                await self._ip.interrupt.wait()  # type: ignore[attr-defined]
                self._ip.write(INTERRUPT_STATUS, 1)

        try:
            asyncio.run(asyncio.wait_for(wait(), deadline_s))
        except asyncio.TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """Wait a little for a running step, then reset the accelerator, then configure it again."""
        with answering(self.name):
            with contextlib.suppress(DeviceLost):
                if self._poll(GRACE_S):
                    return
            self._reset_gpio.write(0, 1)
            self._reset_gpio.write(0, 0)
            if self._ip.is_idle:
                self._start_up()
            else:
                self.reload()

    def free_memory(self) -> int | None:
        """Bytes of contiguous memory that are free by Linux's count, on the board; None where it says none."""
        with answering(self.name):
            text = _meminfo(self._pynq_device)
        lines = [line.split() for line in text.splitlines() if line.startswith("CmaFree:")]
        return int(lines[0][1]) << 10 if lines else None

    def close(self) -> None:
        """Leave the board to other processes and, where it is served, to other clients."""
        try:
            if hasattr(self._pynq_device, "release"):  # a remote board that knows its clients
                self._pynq_device.release()
        finally:
            self._lock.release()


def _name_of(device: Any) -> str:
    """The board's name, with its address where it is a remote one: its lock binds this machine's processes only."""
    address = getattr(device, "ip_addr", None)
    return f"{device.name} at {address}:{device.port}" if address else str(device.name)


def _meminfo(device: Any) -> str:
    path = "/proc/meminfo"
    if hasattr(device, "read_file"):  # remote and emulated boards
        return bytes(device.read_file(path)).decode()
    return Path(path).read_text()


def _overlay(bitfile: Path, device: pynq.Device, config: HardwareConfig) -> pynq.Overlay:
    """The overlay, not yet downloaded. DeviceError where its .hwh cannot be read or describes another design."""
    _forget_clocks()
    try:
        overlay = pynq.Overlay(str(bitfile), download=False, device=device)
    except ImportError as error:
        raise DeviceError(f"pynq is not installed whole ({error}); run: pip install 'ditto-zynq[board]'") from error
    except Exception as error:  # whatever pynq's parser raises
        raise DeviceError(
            f"pynq cannot read {bitfile.with_suffix('.hwh')} ({type(error).__name__}: {error}); copy it again from where "
            "it was built"
        ) from error
    for name in (ACCELERATOR, RESET):
        if name not in overlay.ip_dict:
            found = ", ".join(overlay.ip_dict) or "nothing"
            raise DeviceError(
                f"found {found} in {bitfile.with_suffix('.hwh')}, expected {name}; build the bitstream again"
            )
    for clock in overlay.clock_dict.values():
        if clock.get("enable") and clock.get("frequency") is None:  # pynqmetadata 0.2 finds none for Zynq-7000
            clock["frequency"] = config.clock_mhz
    return overlay


def _forget_clocks() -> None:
    """pynq keeps the clocks of the first device for all others of the process."""
    clocks = pynq.ps.Clocks
    if "_real_instance" in vars(clocks):
        del clocks._real_instance


def _by_content(bitstream: Bitstream, cache: Path | None) -> Path:
    """A copy of .bit and .hwh whose name has the content's hash."""
    folder = (cache or Path.home() / ".cache" / "ditto-zynq") / "bitstreams"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{bitstream.path.stem}-{bitstream.sha256[:8]}.bit"
    for suffix in SUFFIXES:
        temporary = target.with_suffix(f"{suffix}.{os.getpid()}")  # other processes may read the target now
        shutil.copyfile(bitstream.path.with_suffix(suffix), temporary)
        temporary.replace(target.with_suffix(suffix))
    return target
