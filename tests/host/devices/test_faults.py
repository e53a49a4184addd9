"""Faults of a board while it runs: each is named or mended, and nothing is lost or left behind."""

from __future__ import annotations

import _thread
import threading
from dataclasses import replace

import numpy as np
import pytest
from ditto_zynq.hls.machine.isa import CONTROL, IDLE, Region
from ditto_zynq.host.common.errors import DeviceError, DeviceTimeout
from ditto_zynq.host.devices.emulated_board import EmulatedBoard
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.output import Run

from tests.host.devices.emulated import CONFIG, FaultyBoard, never_finish, opened


def test_an_accelerator_that_never_finishes(tmp_path, tiny_model, expected):
    board = FaultyBoard(3, never_finish)
    device = opened(board, tmp_path, clock=board.clock)
    model = Model(tiny_model, device, deadline_s=300)
    with pytest.raises(DeviceTimeout) as error:
        model.generate(2, None, 5, 2, progress=False)
    operations = compile_program(tiny_model.graph, tiny_model.tables, CONFIG, 2).operations
    for part in (
        f"step 2: {board.name} did not finish in 300 s",
        f"It runs descriptor 6 of {len(operations)} ({operations[6].name})",
        "bytes are written. Registers: control 0x1, ",
        "progress 0x7",
        "Free contiguous memory: 5",
        "run the same command again",
    ):
        assert part in str(error.value), str(error.value)
    assert not board.default_memory.allocations, "no buffer is left"
    assert device.read_register(CONTROL) & IDLE, "the accelerator was reset"
    assert np.array_equal(model.generate(3, None, 5, 2, progress=False).samples, expected), "and works after it"


@pytest.mark.parametrize(("check", "step"), [(True, 1), (False, 5)])
def test_an_error_status(tmp_path, tiny_model, check, step):
    """It is seen in the step that it is of where registers are read in every one, else at the end of the run."""

    def damage(board: FaultyBoard) -> bool:
        board.fabric.region(Region.PROGRAM).data[:] = 255
        board.fabric.region(Region.PROGRAM).flush()
        return False

    board = FaultyBoard(2, damage)
    with pytest.raises(
        DeviceError, match=rf"step {step}: .* refused descriptor 0 .*rebuild the bitstream with 'ditto-zynq"
    ):
        Model(tiny_model, opened(board, tmp_path, check=check)).generate(1, progress=False)
    assert not board.default_memory.allocations


def test_a_corrupted_parameter_block_is_written_again(tmp_path, tiny_model, expected):
    size = compile_program(tiny_model.graph, tiny_model.tables, CONFIG, 2).sizes[Region.PARAMETERS]
    filled = threading.Semaphore(0)

    class Corrupted(FaultyBoard):
        def flush(self, bo, offset, virtual_address, nbytes):
            super().flush(bo, offset, virtual_address, nbytes)
            if bo.host.size == size:
                filled.release()

    def corrupt(board: FaultyBoard) -> bool:
        for _ in range(3):  # those of both steps, and the one that the host fills meanwhile
            assert filled.acquire(timeout=600)
        running = board.fabric.region(Region.PARAMETERS)
        other = next(b for b in board.fabric.buffers if b.data.size == size and b is not running)
        other.data[100] ^= 1
        return False

    board = Corrupted(2, corrupt)
    assert np.array_equal(
        Model(tiny_model, opened(board, tmp_path)).generate(3, None, 5, 2, progress=False).samples, expected
    )
    assert board.runs > 2


def test_memory_that_keeps_corrupting_is_named(tmp_path, tiny_model):
    class Faulty(EmulatedBoard):
        def flush(self, bo, offset, virtual_address, nbytes):
            super().flush(bo, offset, virtual_address, nbytes)
            if bo.host.size == size:
                bo.simulated.data[100] ^= 1

    size = compile_program(tiny_model.graph, tiny_model.tables, CONFIG, 1).sizes[Region.PARAMETERS]
    board = Faulty(EmulatorDevice(CONFIG, counting=False))
    with pytest.raises(
        DeviceError, match=r"parameter block of step 0 .* found checksum 0x.*expected 0x.*switch it off and on"
    ):
        Model(tiny_model, opened(board, tmp_path)).generate(1, progress=False)


def test_a_power_cycle_between_two_steps(tmp_path, tiny_model, expected):
    """The batch starts anew; its images are the same, and nothing is counted twice."""

    def switch_off_and_on(board: FaultyBoard) -> bool:
        super(FaultyBoard, board).run()
        board.power_cycle()
        return True

    board, advanced = FaultyBoard(4, switch_off_and_on), []
    model = Model(tiny_model, opened(board, tmp_path))
    batch = model.denoise(np.arange(2), model.labels_of(3, None)[:2], 5, advance=lambda: advanced.append(1))
    assert np.array_equal(batch.samples, expected[:2])
    assert len(advanced) == 6 and board.runs > 6


def test_ctrl_c_leaves_the_accelerator_idle(tmp_path, tiny_model, expected, monkeypatch):
    stopping = threading.Event()

    def interrupt(board: FaultyBoard) -> bool:
        _thread.interrupt_main()
        assert stopping.wait(600)
        return False

    board = FaultyBoard(8, interrupt)
    run = Run(tmp_path / "images.png", "model", 5, np.zeros(3, np.int64), 2)
    device = opened(board, tmp_path)
    stop = device.stop
    monkeypatch.setattr(device, "stop", lambda: (stopping.set(), stop()))
    model = Model(tiny_model, device)
    with pytest.raises(KeyboardInterrupt):
        run.collect(lambda starts: model.batches(3, run.labels, 5, 2, "difference", False, starts))
    assert run.done == 2 and not board.default_memory.allocations and device.read_register(CONTROL) & IDLE


def test_failed_runs_are_resumed(tmp_path, tiny_model):
    """Finished batches are kept, with their counters, and the same command gives the same remaining images."""

    def collect(run: Run, device):
        model = Model(tiny_model, device)
        return run.collect(lambda starts: model.batches(3, run.labels, 5, 2, "difference", False, starts))

    def run() -> Run:
        return Run(tmp_path / "images.png", "model", 5, np.array([0, 1, 2]), 2, counted="counted")

    whole = Model(tiny_model, EmulatorDevice(CONFIG)).generate(3, None, 5, 2, progress=False)
    board = FaultyBoard(9, never_finish)
    board.fabric.counting = True
    device = opened(board, tmp_path, clock=board.clock)
    first = run()
    with pytest.raises(DeviceTimeout, match="did not finish in 600 s"):
        collect(first, device)
    assert first.done == 2
    runs = board.runs
    resumed = collect(run(), device)
    assert board.runs == runs + 6, "only the last batch ran again"
    assert np.array_equal(resumed.samples, whole.samples)
    assert np.array_equal(resumed.record.counters, whole.record.counters) and resumed.record == replace(
        whole.record, counters=resumed.record.counters
    )
