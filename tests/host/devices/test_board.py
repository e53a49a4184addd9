"""The pynq driver on emulated boards: pynq's own objects, memory that is not coherent, and none of it left behind."""

from __future__ import annotations

import asyncio
import gc
import resource
import threading
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pynq
import pytest
from ditto_zynq.hls.build.bitstreams import BitstreamError, find_bitstream
from ditto_zynq.hls.build.handoff import ACCELERATOR, handoff
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import CONTROL, DESCRIPTOR_COUNT, IDLE, Region
from ditto_zynq.host.common.errors import DeviceError, DeviceRefused, DeviceTimeout
from ditto_zynq.host.devices.board import BoardDevice, answering
from ditto_zynq.host.devices.emulated_board import EmulatedBoard, placeholder_bitstream
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.session import DIFFERENCE, Session

from tests.host.devices.emulated import CONFIG, emulated, opened


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


def test_another_configuration(tmp_path):
    other = replace(CONFIG, cores=4)
    board = EmulatedBoard(EmulatorDevice(other))
    bitstream = placeholder_bitstream(CONFIG, tmp_path)
    with pytest.raises(
        DeviceError, match=f"{other.register_hash:#010x}.*{CONFIG.register_hash:#010x}.*build --board zcu104"
    ):
        BoardDevice(bitstream, board, cache=tmp_path, locks=tmp_path)
    opened(EmulatedBoard(EmulatorDevice(other), name=board.name), tmp_path / "other")  # the lock was released


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (handoff(CONFIG)[:5000], "pynq cannot read .*hwh.*copy it again"),
        (handoff(CONFIG).replace(ACCELERATOR, "another"), f"found .*expected {ACCELERATOR}"),
    ],
)
def test_a_damaged_handoff(tmp_path, content, message):
    bitstream = placeholder_bitstream(CONFIG, tmp_path)
    bitstream.path.with_suffix(".hwh").write_text(content)
    with pytest.raises(BitstreamError, match=r"was altered: found bytes \d+, expected \d+"):
        find_bitstream(CONFIG, bitstream.path.parent)
    with pytest.raises(DeviceError, match=message):  # had nobody looked
        BoardDevice(bitstream, emulated(), cache=tmp_path, locks=tmp_path)


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


@pytest.mark.parametrize(
    ("code", "kind"), [("UNKNOWN", DeviceRefused), ("NOT_FOUND", DeviceRefused), ("UNAVAILABLE", DeviceError)]
)
def test_a_handler_that_raised_is_no_silence(code, kind):
    class Answer(grpc.RpcError):
        def code(self):
            return grpc.StatusCode[code]

        def details(self):
            return "Connection refused"

    with (
        pytest.raises(DeviceError, match="refused: " if kind is DeviceRefused else "does not answer") as error,
        answering("it"),
    ):
        raise Answer
    assert type(error.value) is kind


@pytest.mark.parametrize("check", [False, True])
def test_registers_are_read_back_at_a_run_s_ends_or_in_every_step(tmp_path, tiny_model, check):
    device = opened(emulated(), tmp_path, check=check)
    program = compile_program(tiny_model.graph, tiny_model.tables, CONFIG, 1)
    session = Session(program, tiny_model, device)
    reads: list[int] = []
    read_register = device.read_register
    device.read_register = lambda offset: reads.append(offset) or read_register(offset)
    of_steps = []
    for step in range(tiny_model.graph.steps):
        session.run_step(np.zeros((1, *tiny_model.graph.sample_shape)), step, np.zeros(1, np.int64), DIFFERENCE)
        of_steps.append(len(reads))
        reads.clear()
    first, *middle, last = of_steps
    assert first and last and all(middle) == check and any(middle) == check
