"""The emulated board's runs: one that was reset, that crashed or that waits for nothing takes no memory and holds up no other."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
from ditto_zynq.hls.machine.isa import CONTROL, START
from ditto_zynq.host.common.errors import DeviceError
from ditto_zynq.host.devices.board import BoardDevice
from ditto_zynq.host.devices.emulated_board import MOST_ABANDONED, EmulatedBoard, placeholder_bitstream
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.runtime.model import Model

from tests.hls.configs import SHIPPED as CONFIG
from tests.host.devices.served import BASE


def test_a_norm_that_is_none_is_no_wait(tmp_path, tiny_model):
    """An illegal scalar behind a board was a wait of 600 s for a thread that had ended."""
    board = EmulatedBoard(EmulatorDevice(CONFIG))
    device = BoardDevice(placeholder_bitstream(CONFIG, tmp_path), board, cache=tmp_path, locks=tmp_path)
    name = next(name for name in tiny_model.tables if name.endswith(".epsilon"))
    tables = {**tiny_model.tables, name: np.full_like(tiny_model.tables[name], -(1 << 62))}
    with pytest.raises(DeviceError, match=r"refused descriptor \d+ \("):
        Model(dataclasses.replace(tiny_model, tables=tables), device).generate(1, progress=False)


def test_runs_that_were_reset_do_not_pile_up():
    board, end = EmulatedBoard(EmulatorDevice(CONFIG)), threading.Event()
    board.run = end.wait
    board.configure()
    for _ in range(MOST_ABANDONED):
        board.write_word(BASE + CONTROL, START)
        board.configure()
    with pytest.raises(DeviceError, match="runs go on that were reset; wait until one of them ends"):
        board.write_word(BASE + CONTROL, START)
    end.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_runs_that_crashed_and_were_reset_are_over():
    board, ended = EmulatedBoard(EmulatorDevice(CONFIG)), threading.Event()

    def crash() -> None:
        raise RuntimeError("a bug of the simulation")

    board.run = crash
    board.configure()
    for _ in range(2 * MOST_ABANDONED):
        board.write_word(BASE + CONTROL, START)
        board._worker._thread.join(600)
        assert board.read_word(BASE + CONTROL) == START, "as after a bus error: it never finishes"
        board.configure()
    board.run = ended.set
    board.write_word(BASE + CONTROL, START)
    assert ended.wait(600)


def test_a_run_that_goes_on_after_a_reset_has_its_own_memory():
    board, entered, leave, left = EmulatedBoard(EmulatorDevice(CONFIG)), *(threading.Event() for _ in range(3))
    buffer = board.default_memory.reserve(64).simulated
    buffer.data[:] = 1

    def slow() -> None:
        storage = buffer.storage
        entered.set()
        assert leave.wait(600)
        storage[:] = 2
        left.set()

    board.run = slow
    board.configure()
    board.write_word(BASE + CONTROL, START)
    assert entered.wait(600)
    board.configure()
    leave.set()
    assert left.wait(600)
    assert (buffer.data == 1).all()
