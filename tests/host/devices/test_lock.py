"""One process drives a board at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from ditto_zynq.host.common.errors import DeviceError
from ditto_zynq.host.devices.board import BoardDevice
from ditto_zynq.host.devices.emulated_board import placeholder_bitstream
from ditto_zynq.host.devices.lock import BoardLock

from tests.host.devices.emulated import CONFIG, emulated

DRIVE = """
import sys
from pathlib import Path
from types import SimpleNamespace
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.board import BoardDevice
from ditto_zynq.host.devices.emulated_board import EmulatedBoard, placeholder_bitstream
from ditto_zynq.host.devices.emulator import EmulatorDevice
folder = Path(sys.argv[1])
config = default_config("zcu104")
board = EmulatedBoard(EmulatorDevice(config), name="the-board")
device = BoardDevice(placeholder_bitstream(config, folder), board, cache=folder, locks=folder)
print("driving", flush=True)
sys.stdin.read()
"""


def test_two_processes_cannot_drive_one_board(tmp_path):
    """And a process that is killed leaves no lock."""
    command = [sys.executable, "-c", DRIVE, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "driving\n"
    board = emulated(name="the-board")
    with pytest.raises(DeviceError, match=f"the-board is in use by process {process.pid}; wait until"):
        BoardDevice(placeholder_bitstream(CONFIG, tmp_path / "mine"), board, cache=tmp_path, locks=tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    BoardDevice(placeholder_bitstream(CONFIG, tmp_path / "mine"), board, cache=tmp_path, locks=tmp_path).close()


def test_locks_are_per_board(tmp_path):
    one, other = BoardLock("a board", tmp_path), BoardLock("another/board", tmp_path)
    with pytest.raises(DeviceError, match=f"in use by process {os.getpid()}"):
        BoardLock("a board", tmp_path)
    one.release()
    BoardLock("a board", tmp_path).release()
    other.release()
