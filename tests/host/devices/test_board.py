"""The pynq driver on emulated boards: the same bits as everywhere else, and nothing lost or left behind whatever goes wrong."""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pynq
import pytest
from ditto_zynq.hls.build.bitstreams import BitstreamError, find_bitstream
from ditto_zynq.hls.build.handoff import ACCELERATOR, handoff
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import CONTROL, DESCRIPTOR_COUNT, IDLE, Region
from ditto_zynq.host.common.errors import DeviceError, DeviceTimeout
from ditto_zynq.host.devices.board import BoardDevice, Clock
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.emulated_board import EmulatedBoard, placeholder_bitstream
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.devices.lock import BoardLock
from ditto_zynq.host.devices.remote_board import serve
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.output import Run
from ditto_zynq.host.runtime.selftest import FIRST_STEP, default_batch, selftest
from ditto_zynq.host.runtime.session import FLOWS, Session

CONFIG = default_config("zcu104")
KINDS = ["emulator", "csim", "pynq-emulator", "pynq-csim", "remote", pytest.param("board", marks=pytest.mark.board)]


def opened(board: EmulatedBoard, folder: Path, **options) -> BoardDevice:
    bitstream = placeholder_bitstream(board.fabric.config, folder)
    return BoardDevice(bitstream, board, counting=board.fabric.counting, cache=folder, locks=folder, **options)


def emulated(counting: bool = False, **options) -> EmulatedBoard:
    return EmulatedBoard(EmulatorDevice(CONFIG, counting=counting), **options)


@pytest.fixture(params=KINDS)
def device(request, tmp_path, csim_cache):
    """Every device that there is, for the same tests."""
    kind = request.param
    if kind == "board":
        device = BoardDevice(find_bitstream(CONFIG))
    elif kind == "remote":
        from pynq.pl_server.remote_device import RemoteDevice

        server, port = serve(emulated(counting=True), 0)
        request.addfinalizer(server.stop)
        bitstream = placeholder_bitstream(CONFIG, tmp_path)
        device = BoardDevice(bitstream, RemoteDevice(0, "127.0.0.1", port), cache=tmp_path, locks=tmp_path)
    else:
        csim = kind.endswith("csim")
        fabric = CSimDevice(CONFIG, cache=csim_cache) if csim else EmulatorDevice(CONFIG)
        device = opened(EmulatedBoard(fabric), tmp_path) if kind.startswith("pynq") else fabric
    yield device
    device.close()


@pytest.fixture(scope="module")
def expected(tiny_model) -> np.ndarray:
    return Model(tiny_model, EmulatorDevice(CONFIG, counting=False)).generate(3, None, 5, 2, progress=False).samples


def test_every_device_computes_the_same_samples(device, tiny_model, expected):
    model = Model(tiny_model, device)
    for flow in FLOWS:
        images = model.generate(3, None, 5, 2, flow, progress=False)
        assert np.array_equal(images.samples, expected), flow
    assert images.record is not None and images.record.counters["cycles"].min() > 0


def test_every_device_equals_the_integer_reference(device):
    checks = [check for check, _ in zip(selftest(device), range(4), strict=False)]
    assert [check.name for check in checks] == ["registers", "memory", "layers, network 0", "layers, network 1"]
    assert all(check.passed for check in checks), checks


def test_the_throughput_of_a_simulated_board_is_that_of_one_image(device):
    assert default_batch(device) == 1
    assert default_batch(SimpleNamespace(name="Pynq-ZU")) == default_batch(SimpleNamespace(name="zcu104")) == 16


def test_the_stored_hash_is_the_references():
    """Of the bundled model's first step, which the selftest compares with, by plain NumPy in int64."""
    import hashlib

    from ditto_zynq.hls.artefact.model import load
    from ditto_zynq.hls.contract.interpreter import Interpreter
    from ditto_zynq.host.runtime.model import BUNDLED_MODEL
    from ditto_zynq.host.runtime.schedulers import standard_normal

    model = load(BUNDLED_MODEL)
    sample = standard_normal(0, 0, 0, model.graph.sample_shape)[None]
    codes = model.graph.encode(sample, model.scales[model.graph.input][0])
    result = Interpreter(model.graph, model.tables).step(codes.astype(np.int8), 0, np.zeros(1, np.int64))
    output = result[model.graph.output].astype(model.graph.tensors[model.graph.output].dtype)
    assert hashlib.sha256(output.tobytes()).hexdigest().startswith(FIRST_STEP)


# ----------------------------------------------------------------------------------------------------- memory


def test_memory_is_not_coherent(tmp_path):
    """What is not flushed, the accelerator does not see; what is not invalidated, the host does not."""
    board = emulated()
    buffer = opened(board, tmp_path).allocate(256)
    (simulated,) = board.fabric.buffers
    buffer.data[:] = 7
    assert not simulated.data.any()
    buffer.flush(64, 128)
    assert simulated.data.nonzero()[0].tolist() == list(range(64, 128))
    simulated.data[:] = 9
    buffer.invalidate(0, 32)
    assert (buffer.data[:32] == 9).all() and (buffer.data[32:] == 7).all()


def test_buffers_are_given_back(tmp_path, tiny_model):
    board = emulated()
    device = opened(board, tmp_path)
    free = device.free_memory()
    with Model(tiny_model, device) as model:
        model.generate(1, progress=False)
        assert device.free_memory() < free and len(board.default_memory.allocations) == len(Region) + 1
    assert device.free_memory() == free == board.cma_bytes and not board.default_memory.allocations


@pytest.fixture
def only_own_garbage():
    """The more objects others have left alive, the later is garbage collected, and the more memory it takes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_a_thousand_starts_and_stops_leak_nothing(tmp_path, tiny_model, only_own_garbage):
    board = emulated()
    program = compile_program(tiny_model.graph, tiny_model.tables, CONFIG, 1)
    bitstream = placeholder_bitstream(CONFIG, tmp_path)

    def cycle() -> None:
        device = BoardDevice(bitstream, board, cache=tmp_path, locks=tmp_path)
        session = Session(program, tiny_model, device)
        device.write_register(DESCRIPTOR_COUNT, 0)
        device.write_register(CONTROL, 1)
        device.wait(600)
        session.close()
        device.close()

    def resident_kib() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 10

    for _ in range(300):  # until the garbage of pynq's parser has found its size
        cycle()
    before, threads, objects = resident_kib(), threading.active_count(), len(gc.get_objects())
    for _ in range(700):
        cycle()
    grown = resident_kib() - before
    assert grown < 16_000, (
        f"{grown} KiB more after 700 cycles, each with {sum(program.sizes.values()) >> 10} KiB of buffers"
    )
    assert len(gc.get_objects()) - objects < 100
    assert not board.default_memory.allocations and threading.active_count() == threads


def test_too_little_memory_half_way(tmp_path, tiny_model):
    sizes = compile_program(tiny_model.graph, tiny_model.tables, CONFIG, 2).sizes
    board = emulated(cma_bytes=sum(sizes.values()) - sizes[Region.COUNTERS])
    device = opened(board, tmp_path)
    with pytest.raises(
        DeviceError, match=r"found 0\.\d MiB of contiguous memory free on .*expected 0\.\d MiB.*use a smaller"
    ):
        Model(tiny_model, device).generate(2, batch=2, flow="difference", progress=False)
    assert not board.default_memory.allocations


# ----------------------------------------------------------------------------------------------------- faults


class FaultyBoard(EmulatedBoard):
    """Does something else at its ``fault``-th run of a program. Time passes for its host only while it ``hangs``."""

    def __init__(self, fault: int, does, **options):
        super().__init__(EmulatorDevice(CONFIG, counting=False), **options)
        self.fault, self.does, self.runs = fault, does, 0
        self.hangs, self.seconds = False, 0.0
        self.clock = Clock(lambda: self.seconds, self.pause)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
        self.seconds += 1000.0 if self.hangs else 0.0

    def run(self) -> None:
        if self.fabric.read_register(DESCRIPTOR_COUNT):
            self.runs += 1
            if self.runs == self.fault and self.does(self):
                return
        super().run()

    def _reset_accelerator(self) -> None:
        super()._reset_accelerator()
        self.hangs = False


def never_finish(board: FaultyBoard) -> bool:
    super(FaultyBoard, board).run()
    board.fabric.registers[0x30] = 7  # PROGRESS
    board.hangs = True
    threading.Event().wait()
    return True


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


def test_an_error_status(tmp_path, tiny_model):
    def damage(board: FaultyBoard) -> bool:
        board.fabric.region(Region.PROGRAM).data[:] = 255
        board.fabric.region(Region.PROGRAM).flush()
        return False

    board = FaultyBoard(2, damage)
    with pytest.raises(DeviceError, match=r"step 1: .* refused descriptor 0 .*rebuild the bitstream with 'ditto-zynq"):
        Model(tiny_model, opened(board, tmp_path)).generate(1, progress=False)
    assert not board.default_memory.allocations


def test_another_configuration(tmp_path):
    other = replace(CONFIG, cores=4)
    board = EmulatedBoard(EmulatorDevice(other))
    bitstream = placeholder_bitstream(CONFIG, tmp_path)
    with pytest.raises(
        DeviceError, match=f"{other.register_hash:#010x}.*{CONFIG.register_hash:#010x}.*build --board zcu104"
    ):
        BoardDevice(bitstream, board, cache=tmp_path, locks=tmp_path)
    opened(EmulatedBoard(EmulatorDevice(other), name=board.name), tmp_path / "other")  # the lock was released


@pytest.mark.parametrize(("content", "message"), [
    (handoff(CONFIG)[:5000], "pynq cannot read .*hwh.*copy it again"),
    (handoff(CONFIG).replace(ACCELERATOR, "another"), f"found .*expected {ACCELERATOR}"),
])  # fmt: skip
def test_a_damaged_handoff(tmp_path, content, message):
    bitstream = placeholder_bitstream(CONFIG, tmp_path)
    bitstream.path.with_suffix(".hwh").write_text(content)
    with pytest.raises(BitstreamError, match=r"was altered: found bytes \d+, expected \d+"):
        find_bitstream(CONFIG, bitstream.path.parent)
    with pytest.raises(DeviceError, match=message):  # had nobody looked
        BoardDevice(bitstream, emulated(), cache=tmp_path, locks=tmp_path)


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


# ----------------------------------------------------------------------------------------------------- processes

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


# ----------------------------------------------------------------------------------------------------- pynq itself


def test_the_driver_is_pynqs(tmp_path):
    """Found by its VLNV, with a register map from the handoff."""
    board = emulated()
    device = opened(board, tmp_path)
    accelerator = getattr(device._overlay, ACCELERATOR)
    assert type(accelerator).__name__ == "DittoAccelerator" and accelerator.register_map.CTRL.AP_IDLE == 1
    assert int(accelerator.register_map.config_hash) == CONFIG.register_hash
    assert accelerator._interrupts["interrupt"]["controller"] == "interrupts"


def test_interrupts(tmp_path, tiny_model, expected, monkeypatch):
    """With a stand-in for pynq's Interrupt, which needs Linux's UIO: it fires when the accelerator is idle again."""
    board, waited = emulated(), []

    class Interrupt:
        def __init__(self, fullpath: str):
            self.fullpath = fullpath

        async def wait(self) -> None:
            waited.append(self.fullpath)
            while not board.read_word(board._accelerator.address) & IDLE:
                await asyncio.sleep(1e-4)

    monkeypatch.setattr("pynq.overlay.Interrupt", Interrupt)
    device = opened(board, tmp_path, interrupts=True)
    assert device.read_register(0x04) == device.read_register(0x08) == 1, "global and channel enable"
    assert np.array_equal(Model(tiny_model, device).generate(3, None, 5, 2, progress=False).samples, expected)
    assert waited and set(waited) == {f"{ACCELERATOR}/interrupt"}
    board.run = threading.Event().wait
    device.write_register(CONTROL, 1)
    with pytest.raises(DeviceTimeout, match=r"did not finish in 0 s"):
        device.wait(0)


def test_no_interrupts_are_refused(tmp_path):
    with pytest.raises(DeviceError, match="pynq offers no interrupts on emulated-"):
        opened(emulated(), tmp_path, interrupts=True)


@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
def test_other_boards(board, tmp_path, tiny_model, expected):
    """pynq's parser finds no clock frequency for Zynq-7000, and dies of it; the driver knows the configuration's."""
    config = default_config(board)
    model = Model(tiny_model, opened(EmulatedBoard(EmulatorDevice(config, counting=False)), tmp_path))
    assert np.array_equal(model.generate(3, None, 5, 2, progress=False).samples, expected)
    assert pynq.ps.Clocks.fclk0_mhz == pytest.approx(config.clock_mhz, rel=0.01)
