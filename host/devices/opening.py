"""Devices by the names that the command line knows them by."""

from __future__ import annotations

import platform
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...hls.build.bitstreams import BitstreamError, find_bitstream
from ...hls.machine.config import HardwareConfig
from ..common.errors import DeviceError
from .device import Device
from .emulator import EmulatorDevice

if TYPE_CHECKING:
    from .simulated import SimulatedDevice

KINDS = "auto, board, remote:[TOKEN@]HOST[:PORT], emulator, csim, pynq-emulator or pynq-csim"
BOARD_MACHINES = ("aarch64", "armv7l")


def open_device(
    kind: str,
    config: HardwareConfig,
    counting: bool = True,
    backend: str | None = None,
    bitstreams: Path | None = None,
    announce: Callable[[str], object] = lambda text: None,
    check: bool = False,
) -> Device:
    """Open a device of a ``kind``.

    ``auto``: this machine's board if it is one and has a bitstream, else the emulator; ``board``: this machine's;
    ``remote:[TOKEN@]HOST[:PORT]``: one that serves PYNQ's protocol, to those who know its token; ``emulator``, ``csim``: in this
    process; ``pynq-emulator``, ``pynq-csim``: these two as boards that pynq's driver drives. ``counting``: whether it fills
    counter records; ``backend``: of the emulator's integer products; ``bitstreams``: folder of built ones (default: the shipped
    one); ``announce`` is told what a user should know; ``check``: whether a board's registers are read back in every step.

    ValueError for another kind, BitstreamError where none is built for ``config``, DeviceError where there is no board.
    """
    if kind == "auto":
        return _board_or_emulator(config, counting, backend, bitstreams, announce, check)
    if kind == "board":
        return _board(config, bitstreams, check)
    if kind.startswith("remote:"):
        return _remote(kind.removeprefix("remote:"), config, bitstreams, check)
    if kind not in ("emulator", "csim", "pynq-emulator", "pynq-csim"):
        raise ValueError(f"found device {kind!r}, expected {KINDS}")
    fabric = fabric_of(kind.removeprefix("pynq-"), config, counting, backend, announce)
    return put_behind_pynq(fabric, check) if kind.startswith("pynq-") else fabric


def fabric_of(
    kind: str,
    config: HardwareConfig,
    counting: bool,
    backend: str | None = None,
    announce: Callable[[str], object] = lambda text: None,
) -> SimulatedDevice:
    """What runs programs where there is no board: ``emulator`` or ``csim``. ValueError for another kind."""
    if kind == "emulator":
        return EmulatorDevice(config, counting=counting, backend=backend)
    if kind == "csim":
        from .csim import CSimDevice

        return CSimDevice(config, announce=announce)
    raise ValueError(f"found accelerator {kind!r}, expected emulator or csim")


def _board_or_emulator(
    config: HardwareConfig,
    counting: bool,
    backend: str | None,
    bitstreams: Path | None,
    announce: Callable[[str], object],
    check: bool,
) -> Device:
    if platform.machine() in BOARD_MACHINES:
        try:
            return _board(config, bitstreams, check)
        except (DeviceError, BitstreamError, ModuleNotFoundError) as error:
            announce(f"no board: {error}; the emulator runs instead")
    return EmulatorDevice(config, counting=counting, backend=backend)


def _board(config: HardwareConfig, bitstreams: Path | None, check: bool) -> Device:
    bitstream = find_bitstream(config, bitstreams)
    from .board import BoardDevice

    device = _pynq_device()
    if device is None:
        raise DeviceError(
            "pynq finds no device on this machine; run this on a PYNQ image, in a shell where XRT is set up (as in its "
            "notebooks), or use --device emulator"
        )
    return BoardDevice(bitstream, device, check=check)


def _pynq_device() -> Any:
    import pynq

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynq warns that it found none
        found = pynq.Device.devices
    return found[0] if found else None


def _remote(address: str, config: HardwareConfig, bitstreams: Path | None, check: bool) -> Device:
    token, _, place = address.rpartition("@")
    found = re.fullmatch(r"(\[[^]]+\]|[^:]+)(?::(\d{1,5}))?", place)
    host, port = found.groups() if found else ("", None)
    if not host or (port and not 0 < int(port) < 1 << 16):
        raise ValueError(
            f"found device 'remote:{place}', expected remote:HOST or remote:HOST:PORT, TOKEN@ before HOST, an IPv6 address in "
            "brackets"
        )
    bitstream = find_bitstream(config, bitstreams)
    from .board import BoardDevice

    try:
        from .remote_client import connect
    except ImportError as error:
        raise DeviceError(f"this pynq knows no remote boards ({error}); run: pip install 'pynq>=4'") from error
    device = connect(host, int(port) if port else None, token or None)
    try:
        return BoardDevice(bitstream, device, check=check)
    except BaseException:
        device.release()
        raise


def put_behind_pynq(fabric: SimulatedDevice, check: bool = False) -> Device:
    """A board whose programmable logic is ``fabric``, driven by real pynq; ``check``: with registers read back in every step."""
    from .board import BoardDevice
    from .emulated_board import EmulatedBoard, placeholder_bitstream

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bitstream = placeholder_bitstream(fabric.config, folder)
        return BoardDevice(
            bitstream, EmulatedBoard(fabric), counting=fabric.counting, check=check, cache=folder, locks=folder
        )
