"""Clients of a served board that mean no good, or are just two: each is refused with a status, and the board goes on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from ditto_zynq.hls.handoff import ACCELERATOR, cells
from ditto_zynq.hls.isa import CONTROL, DESCRIPTOR_COUNT, ERROR, START, Region, base_registers
from ditto_zynq.host.board import BoardDevice, answering
from ditto_zynq.host.cli import main
from ditto_zynq.host.compiler import compile_program
from ditto_zynq.host.device import DeviceError, DeviceRefused
from ditto_zynq.host.devices import open_device
from ditto_zynq.host.emulated_board import MOST_ABANDONED, EmulatedBoard, placeholder_bitstream
from ditto_zynq.host.emulator import EmulatorDevice
from ditto_zynq.host.remote_access import CLIENT, Lease, Limits, Refused
from ditto_zynq.host.remote_board import CONFIGURES, FIRMWARE, Server, _Files, serve
from ditto_zynq.host.remote_client import connect
from ditto_zynq.host.runtime import Model
from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    gpio_pb2,
    gpio_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)

from tests.helpers import wait_until
from tests.hls.configs import SHIPPED as CONFIG

LIMITS = Limits(idle_s=600, file_bytes=1 << 20, buffers=32, mappings=64)
BASE = next(cell.address for cell in cells(CONFIG) if cell.name == ACCELERATOR)
Status = grpc.StatusCode


class Client:
    """What a hostile client has: the protocol, without pynq's own checks. ``named``: as one that may reconnect."""

    def __init__(self, port: int, named: str | None = None, token: str | None = None):
        # a connection of its own: clients of a process share one else
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.metadata = [(CLIENT, named)] if named else []
        self.metadata += [("authorization", f"Bearer {token}")] if token else []
        self.files = remote_device_pb2_grpc.RemoteDeviceStub(self.channel)
        self.registers = mmio_pb2_grpc.MmioStub(self.channel)
        self.buffers = buffer_pb2_grpc.RemoteBufferStub(self.channel)
        self.gpio = gpio_pb2_grpc.GpioStub(self.channel)

    def exists(self, path: str) -> bool:
        return self.files.existsfile(remote_device_pb2.ExistsFileRequest(file_path=path), metadata=self.metadata).exists

    def read_file(self, path: str) -> bytes:
        request = remote_device_pb2.ReadFileRequest(file_path=path)
        return b"".join(part.data for part in self.files.readfile(request, metadata=self.metadata))

    def write_file(self, path: str, *parts: bytes) -> None:
        requests = (remote_device_pb2.WriteFileRequest(file_path=path, data=part) for part in parts or (b"x",))
        self.files.writefile(requests, metadata=self.metadata)

    def configure(self, name: str = "design.bin") -> None:
        self.write_file(FIRMWARE + name, b"bits")
        self.write_file(CONFIGURES, name.encode())

    def map(self, base: int = BASE, length: int = 4096) -> str:
        request = mmio_pb2.GetMmioRequest(base_addr=base, length=length)
        return self.registers.get_mmio(request, metadata=self.metadata).mmio_id

    def read(self, mapping: str, offset: int, length: int = 4) -> int:
        request = mmio_pb2.ReadRequest(mmio_id=mapping, offset=offset, length=length)
        return self.registers.read(request, metadata=self.metadata).data

    def write(self, mapping: str, offset: int, data: int | bytes) -> None:
        data = data.to_bytes(4, "little") if isinstance(data, int) else data
        request = mmio_pb2.WriteRequest(mmio_id=mapping, offset=offset, data=data)
        self.registers.write(request, metadata=self.metadata)

    def allocate(self, size: int) -> str:
        return self.buffers.allocate(buffer_pb2.AllocateRequest(size=size), metadata=self.metadata).buffer_id

    def address(self, name: str) -> int:
        return self.buffers.physical_address(buffer_pb2.AddressRequest(buffer_id=name), metadata=self.metadata).address

    def fill(self, name: str, *parts: bytes) -> None:
        requests = (buffer_pb2.BufferWriteRequest(buffer_id=name, data=part) for part in parts)
        self.buffers.write(requests, metadata=self.metadata)
        self.buffers.flush(buffer_pb2.FlushRequest(buffer_id=name), metadata=self.metadata)

    def content(self, name: str) -> bytes:
        self.buffers.invalidate(buffer_pb2.InvalidateRequest(buffer_id=name), metadata=self.metadata)
        request = buffer_pb2.BufferReadRequest(buffer_id=name)
        return b"".join(part.data for part in self.buffers.read(request, metadata=self.metadata))

    def free(self, name: str) -> None:
        self.buffers.freebuffer(buffer_pb2.FreeBufferRequest(buffer_id=name), metadata=self.metadata)


@pytest.fixture
def served(request) -> Iterator[SimpleNamespace]:
    options = getattr(request, "param", {})
    board = EmulatedBoard(EmulatorDevice(CONFIG, counting=False), cma_bytes=64 << 20)
    clock = SimpleNamespace(now=0.0)  # seconds that pass when a test says so
    server, port = serve(board, 0, **{"limits": LIMITS, "clock": lambda: clock.now, **options})
    yield SimpleNamespace(board=board, port=port, server=server, clock=clock)
    server.stop()


@pytest.fixture
def client(served) -> Client:
    return Client(served.port)


def assert_refused(status: grpc.StatusCode, why: str, call, *arguments) -> None:
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments)
    assert error.value.code() == status and why in error.value.details(), error.value.details()


def assert_serves(served: SimpleNamespace) -> None:
    """The board still does all that a client needs."""
    served.clock.now += 1000
    client = Client(served.port)
    client.configure()
    name = client.allocate(16)
    client.fill(name, b"0123456789abcdef")
    assert client.content(name) == b"0123456789abcdef"


# ----------------------------------------------------------------------------------------------------- registers


@pytest.mark.parametrize("length", [1 << 40, (1 << 64) - 1, 8, 3, 0])
def test_reads_of_any_length(served, client, length):
    assert_refused(Status.INVALID_ARGUMENT, "expected 1, 2 or 4", client.read, client.map(), 0, length)
    assert_serves(served)


@pytest.mark.parametrize("offset", [4096, 1 << 40, (1 << 64) - 4])
def test_registers_beyond_a_mapping(client, offset):
    mapping = client.map()
    assert_refused(Status.OUT_OF_RANGE, "expected them in 4096", client.read, mapping, offset)
    assert_refused(Status.OUT_OF_RANGE, "expected them in 4096", client.write, mapping, offset, 1)


def test_registers_that_are_none(served, client):
    mapping = client.map((1 << 64) - 4096)
    assert client.read(mapping, 0) == 0
    assert_refused(Status.INVALID_ARGUMENT, "expected a multiple of 4", client.map, BASE + 1)
    assert_refused(Status.INVALID_ARGUMENT, "expected a multiple of 4", client.read, mapping, 2)
    assert_refused(Status.NOT_FOUND, "no such mapping", client.read, "nobody's", 0)
    assert_refused(Status.NOT_FOUND, "no such mapping", client.read, "", 0)
    assert_refused(Status.RESOURCE_EXHAUSTED, "expected at most 4096", client.write, mapping, 0, bytes(1 << 20))
    assert_serves(served)


def test_mappings_and_registers_that_fill_memory(served, client):
    for page in range(LIMITS.mappings):
        client.map(4096 * page)
    assert client.map(0) == client.map(0), "the same again is no other one"
    assert_refused(Status.RESOURCE_EXHAUSTED, "mappings of registers", client.map, 1 << 30)
    written = Client(served.port, named="another")
    served.clock.now += 1000
    mapping = written.map(0x2000_0000, 1 << 20)
    with pytest.raises(grpc.RpcError, match="found 4097 registers that were written, expected at most 4096"):
        for block in range(8):
            written.write(mapping, 4096 * block, bytes(4096))
    assert_serves(served)


# ----------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("path", [
    "/etc/passwd", "../../etc/passwd", "/lib/firmware/../../etc/passwd", "/lib/firmware/a/b", "/tmp/../etc/x", "/proc/version",
    "/proc/device-tree/chosen/pynq_board", "/proc/meminfo", "/lib/firmware/", "/tmp/" + 300 * "x", "/lib/firmware//x", "\0",
])  # fmt: skip
def test_paths(served, client, tmp_path, path):
    with pytest.raises(grpc.RpcError) as error:
        client.write_file(path, b"hostile")
    assert error.value.code() in (Status.PERMISSION_DENIED, Status.INVALID_ARGUMENT)
    assert "hostile" not in str(client.read_file("/proc/version"))
    assert not client.exists(path) or path.startswith("/proc/")
    if not path.startswith("/proc/"):
        assert_refused(Status.NOT_FOUND, "does not exist on", client.read_file, path)


def test_nothing_of_this_machine_is_read(client):
    for path in ("/etc/passwd", __file__, "/proc/self/environ", "", 1 << 20):
        assert not client.exists(str(path))
        assert_refused(Status.NOT_FOUND, "does not exist on", client.read_file, str(path))
    assert_refused(Status.NOT_FOUND, "does not exist on", client.read_file, 3_000_000 * "x")


def test_files_that_fill_memory(served, client):
    part = bytes(1 << 18)
    client.write_file("/tmp/large", *[part] * 4)
    said = f"found a file of {5 << 18} bytes so far, expected at most {4 << 18}"
    assert_refused(Status.RESOURCE_EXHAUSTED, said, client.write_file, "/tmp/larger", *[part] * 5)
    with pytest.raises(grpc.RpcError, match=f"expected at most {LIMITS.files}"):
        for index in range(LIMITS.files + 1):
            client.write_file(f"/tmp/{index}")
    client_of_all = Client(served.port, named="another")
    served.clock.now += 1000
    client_of_all.write_file(FIRMWARE + "design.bin", b"bits")
    for index in range(LIMITS.files - 3):
        client_of_all.write_file(f"/tmp/{index}")
    assert_refused(
        Status.RESOURCE_EXHAUSTED,
        f"found {LIMITS.files + 1} files",
        client_of_all.write_file,
        CONFIGURES,
        b"design.bin",
    )
    assert not served.board._is_configured, "configured although it was refused"
    assert_serves(served)


def test_streams_that_say_nothing_or_change_their_mind(served, client):
    assert_refused(Status.INVALID_ARGUMENT, "without a name", client.files.writefile, iter(()))
    two = [remote_device_pb2.WriteFileRequest(file_path=f"/tmp/{name}", data=b"x") for name in "ab"]
    assert_refused(Status.INVALID_ARGUMENT, "one plain path", client.files.writefile, iter(two))
    assert_refused(Status.NOT_FOUND, "does not exist on", client.write_file, CONFIGURES, b"\xff\xfe nothing")
    name = client.allocate(64)
    assert_refused(Status.OUT_OF_RANGE, "expected 64 of one buffer", client.fill, name, bytes(40), bytes(40))
    other = [buffer_pb2.BufferWriteRequest(buffer_id=each, data=b"x") for each in (name, client.allocate(64))]
    assert_refused(Status.OUT_OF_RANGE, "of one buffer", client.buffers.write, iter(other))
    assert_serves(served)


@pytest.fixture
def late(monkeypatch) -> threading.Event:
    """While it is set, no stream's client is waited for any longer; no time passes otherwise."""
    late = threading.Event()

    async def wait_for(waiting: Awaitable[Any], seconds: float) -> Any:
        assert seconds == LIMITS.idle_s
        message = asyncio.ensure_future(waiting)
        while not message.done():
            if late.is_set():
                message.cancel()
                raise asyncio.TimeoutError
            await asyncio.sleep(0.001)
        return message.result()

    monkeypatch.setattr(
        "ditto_zynq.host.remote_access.asyncio", SimpleNamespace(wait_for=wait_for, TimeoutError=asyncio.TimeoutError)
    )
    return late


def test_unfinished_streams(served, client, late):
    """More than the server ever had threads: none holds up anybody, and each ends by itself."""
    endless = threading.Event()

    def requests():
        yield remote_device_pb2.WriteFileRequest(file_path="/tmp/slow", data=b"x")
        endless.wait()

    calls = [client.files.writefile.future(requests()) for _ in range(4 * LIMITS.streams)]
    assert client.exists("/proc/version") and Client(served.port).exists("/proc/version")
    assert sum(not call.done() for call in calls) >= LIMITS.streams, "they are open meanwhile"
    late.set()
    codes = [call.exception().code() for call in calls]
    late.clear()
    endless.set()
    assert set(codes) <= {Status.DEADLINE_EXCEEDED, Status.RESOURCE_EXHAUSTED}
    assert codes.count(Status.DEADLINE_EXCEEDED) >= LIMITS.streams
    assert_serves(served)


def test_unfinished_calls_of_one_message(served, client, late):
    """Headers without the one message that follows."""
    endless = threading.Event()

    def nothing():
        endless.wait()
        yield b""

    method = "/remote_device.RemoteDevice/existsfile"
    open_calls = [client.channel.stream_unary(method).future(nothing()) for _ in range(12)]
    open_calls.append(client.channel.stream_unary("/remote_device.RemoteDevice/readfile").future(nothing()))
    other = Client(served.port)
    assert other.exists("/proc/version")
    assert_serves(served)
    late.set()
    codes = {call.exception(timeout=600).code() for call in open_calls}
    late.clear()
    assert codes == {Status.DEADLINE_EXCEEDED}, "nothing else ends them"
    assert_refused(Status.INVALID_ARGUMENT, "without its message", client.channel.stream_unary(method), iter(()))
    endless.set()


def test_many_calls_that_follow_each_other(client):
    """The streams of a connection are limited: what has ended is no longer among them, whenever garbage is collected."""
    gc.disable()
    try:
        name, mapping = client.allocate(64), client.map()
        for _ in range(50):
            client.fill(name, bytes(64))
            assert client.read(mapping, 0x40) == 0 and client.content(name) == bytes(64)
    finally:
        gc.enable()


@pytest.fixture
def arrived(monkeypatch) -> threading.Semaphore:
    """Released for every part of a file that has reached the server."""
    parts, check = threading.Semaphore(0), _Files._check_path

    def checked(self: _Files, path: str, again: str) -> None:
        check(self, path, again)
        parts.release()

    monkeypatch.setattr(_Files, "_check_path", checked)
    return parts


def begin_file(client: Client, path: str, end: threading.Event) -> grpc.Future:
    def requests():
        yield remote_device_pb2.WriteFileRequest(file_path=path, data=b"x")
        end.wait()

    return client.files.writefile.future(requests(), metadata=client.metadata)


@pytest.mark.parametrize("served", [{"limits": dataclasses.replace(LIMITS, calls=2, idle_s=600.0)}], indirect=True)
def test_many_calls_at_a_time(served, client, arrived):
    end = threading.Event()
    open_calls = [begin_file(client, f"/tmp/{name}", end) for name in "ab"]
    assert all(arrived.acquire(timeout=600) for _ in open_calls)
    assert_refused(Status.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded", client.exists, "/tmp/c")
    end.set()
    for call in open_calls:
        call.result(timeout=600)
    for _ in range(10_000):  # the server counts a call for a moment after its client has the result
        with contextlib.suppress(grpc.RpcError):
            assert client.exists("/tmp/a")
            break
    else:
        pytest.fail("calls that ended are counted")


@pytest.mark.parametrize("served", [{"limits": dataclasses.replace(LIMITS, idle_s=600.0)}], indirect=True)
def test_a_stream_that_lost_its_board_writes_nothing(served, client, arrived):
    """The owner that was idle too long ends its file when another client has the board."""
    end = threading.Event()
    call = begin_file(client, "/tmp/late", end)
    assert arrived.acquire(timeout=600)
    served.clock.now += LIMITS.lease_s
    other = Client(served.port)
    other.configure()
    end.set()
    assert call.exception(timeout=600).code() == Status.PERMISSION_DENIED
    assert not other.exists("/tmp/late")


def test_many_connections(served):
    clients = [Client(served.port) for _ in range(100)]
    assert all(each.exists("/proc/version") for each in clients)
    for each in clients:
        each.channel.close()
    assert_serves(served)


def test_methods_that_are_none(served, client):
    assert_refused(Status.UNIMPLEMENTED, "", client.channel.unary_unary("/no.Service/nothing"), b"")
    assert_refused(Status.UNIMPLEMENTED, "no such thing", client.gpio.get_gpio, gpio_pb2.GetGpioRequest(index=-1))
    assert_refused(Status.UNIMPLEMENTED, "no such thing", client.buffers.cacheable, buffer_pb2.CacheableRequest())
    with pytest.raises(grpc.RpcError):
        client.channel.unary_unary("/buffer.RemoteBuffer/allocate")(b"\xff" * 100)
    assert_serves(served)


# ----------------------------------------------------------------------------------------------------- buffers


@pytest.mark.parametrize("size", [0, -1, -(1 << 31)])
def test_buffers_of_no_size(served, client, size):
    assert_refused(Status.INVALID_ARGUMENT, "expected at least 1", client.allocate, size)
    assert not served.board.fabric.buffers


def test_buffers_do_not_overlap(client):
    names = [client.allocate(size) for size in (1, 4096, 4097, 12)]
    places = sorted((client.address(name), size) for name, size in zip(names, (1, 4096, 4097, 12), strict=True))
    assert all(first + size <= second for (first, size), (second, _) in itertools.pairwise(places))


def test_buffers_that_fill_memory(served, client):
    assert_refused(Status.RESOURCE_EXHAUSTED, "Failed to allocate", client.allocate, (1 << 31) - 1)
    names = [client.allocate(1) for _ in range(LIMITS.buffers)]
    assert served.board.default_memory.free_bytes == (64 << 20) - 4096 * LIMITS.buffers, "whole pages"
    assert_refused(Status.RESOURCE_EXHAUSTED, f"expected at most {LIMITS.buffers}", client.allocate, 1)
    for name in names:
        client.free(name)
        client.free(name)
    assert not served.board.default_memory.allocations
    for call in (client.address, client.content):
        assert_refused(Status.NOT_FOUND, "no such buffer", call, names[0])
    assert_refused(Status.NOT_FOUND, "no such buffer", client.fill, "", b"x")
    assert_serves(served)


# ----------------------------------------------------------------------------------------------------- programs


def test_a_hostile_program_over_the_network(served, client, tiny_model):
    """Every word of another array, or a segmentation fault: an error status instead."""
    client.configure()
    program = compile_program(tiny_model.graph, tiny_model.tables, CONFIG, 1)
    descriptors = program.descriptors.copy()
    descriptors["sample_stride"] = (1 << 32) - 8
    descriptors["batch"] = 2
    mapping = client.map()
    for region, size in program.sizes.items():
        name = client.allocate(max(size, 1))
        client.fill(name, descriptors.tobytes() if region == Region.PROGRAM else bytes(size))
        for register in base_registers(region):
            client.write(mapping, register, client.address(name) & 0xFFFFFFFF)
            client.write(mapping, register + 4, client.address(name) >> 32)
    client.write(mapping, DESCRIPTOR_COUNT, len(descriptors))
    client.write(mapping, CONTROL, START)
    wait_until(lambda: not client.read(mapping, CONTROL) & START, "the accelerator ends")
    assert client.read(mapping, ERROR) == 1
    client.write(mapping, base_registers(Region.STATE)[0], 0xDEADBEEC)
    client.write(mapping, CONTROL, START)
    wait_until(lambda: not client.read(mapping, CONTROL) & START, "the accelerator ends")
    assert client.read(mapping, ERROR) == 1, "a pointer to nothing"


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


# ----------------------------------------------------------------------------------------------------- one owner


def test_one_owner_at_a_time(served):
    one, other = Client(served.port), Client(served.port)
    one.configure()
    held = one.allocate(64)
    one.fill(held, 64 * b"1")
    mapping = one.map()
    for call, *arguments in (
        (other.configure,), (other.allocate, 64), (other.map,), (other.read, mapping, 0), (other.write, mapping, 0x40, 7),
        (other.content, held), (other.address, held), (other.free, held), (other.exists, FIRMWARE + "design.bin"),
    ):  # fmt: skip
        assert_refused(Status.PERMISSION_DENIED, "the board is in use by another client", call, *arguments)
    assert other.exists("/proc/version"), "whoever asks is told what board this is"
    assert one.content(held) == 64 * b"1" and one.read(mapping, 0x40) == 0
    served.clock.now += LIMITS.lease_s - 1
    assert_refused(Status.PERMISSION_DENIED, f"idle for {LIMITS.lease_s - 1:.0f} s", other.allocate, 64)
    served.clock.now += 1
    other.configure()
    assert not other.exists("/tmp/slow") and not served.board.default_memory.allocations, (
        "nothing of the first one's is left"
    )
    assert_refused(Status.PERMISSION_DENIED, "in use by another client", one.content, held)


def test_an_owner_that_reconnects(served):
    """By the name that it gives itself, which nobody else knows."""
    one = Client(served.port, named="a long random name")
    held = one.allocate(64)
    one.channel.close()
    assert_refused(Status.PERMISSION_DENIED, "in use", Client(served.port).content, held)
    assert Client(served.port, named="a long random name").content(held) == bytes(64)


def test_leases():
    clock, handed = SimpleNamespace(now=0), []
    lease = Lease(10, lambda: handed.append(clock.now), lambda: clock.now)
    lease.hold("one")
    clock.now = 9
    lease.hold("one")
    clock.now = 18
    with pytest.raises(Refused, match="idle for 9 s: wait until it has finished, or until it has been idle for 10 s"):
        lease.hold("other")
    lease.release("other")
    with pytest.raises(Refused):
        lease.hold("other")
    lease.release("one")
    lease.hold("other")
    assert handed == [0, 18, 18]


def test_two_of_our_clients(served, tmp_path, tiny_model):
    """The second one is told; it has the board as soon as the first one closes it."""
    bits = placeholder_bitstream(CONFIG, tmp_path)
    first = open_device(f"remote:127.0.0.1:{served.port}", CONFIG, bitstreams=bits.path.parent)
    before = Model(tiny_model, first).generate(1, seed=5, progress=False).samples
    second = connect("127.0.0.1", served.port)
    with pytest.raises(DeviceError, match=r"refused: the board is in use by another client, idle for 0 s"):
        BoardDevice(bits, second, cache=tmp_path, locks=tmp_path)
    assert np.array_equal(Model(tiny_model, first).generate(1, seed=5, progress=False).samples, before)
    first.close()
    last = BoardDevice(bits, second, counting=False, cache=tmp_path, locks=tmp_path)
    assert np.array_equal(Model(tiny_model, last).generate(1, seed=5, progress=False).samples, before)


# ----------------------------------------------------------------------------------------------------- tokens and addresses


@pytest.mark.parametrize("served", [{"token": "open sesame"}], indirect=True)
def test_tokens(served, tmp_path):
    for token in (None, "open", "open sesamf"):
        stranger = Client(served.port, token=token)
        for call, *arguments in ((stranger.exists, "/proc/version"), (stranger.read_file, "/proc/version"), (stranger.map,),
                                 (stranger.allocate, 64), (stranger.write_file, "/tmp/x")):  # fmt: skip
            assert_refused(Status.UNAUTHENTICATED, "expected the board's", call, *arguments)
    assert Client(served.port, token="open sesame").allocate(64)
    served.clock.now += 1000
    bits = placeholder_bitstream(CONFIG, tmp_path).path.parent
    open_device(f"remote:open sesame@127.0.0.1:{served.port}", CONFIG, bitstreams=bits).close()
    with pytest.raises(DeviceError, match="refused: found no token, or another one"):
        open_device(f"remote:127.0.0.1:{served.port}", CONFIG, bitstreams=bits)


def test_addresses_and_ports(tmp_path):
    board = EmulatedBoard(EmulatorDevice(CONFIG))
    for address in ("0.0.0.0", "[::]"):
        with pytest.raises(ValueError, match=r"other machines reach .*: give a token"):
            serve(board, 0, address)
    with pytest.raises(ValueError, match="found a token that is empty"):
        serve(board, 0, token="")
    with pytest.raises(OSError, match=r"found address 'nowhere\.invalid'"):
        serve(board, 0, "nowhere.invalid")
    with pytest.raises(OSError, match=r"found address 'nowhere\.invalid'"):
        serve(board, 0, "nowhere.invalid", token="x")
    with pytest.raises(
        OSError, match=r"cannot listen at 192\.0\.2\.1:0 \(Cannot assign .* give an --address of this machine"
    ):
        serve(board, 0, "192.0.2.1", token="x")
    for port in (-1, 65536, 99999):
        with pytest.raises(ValueError, match=f"found port {port}, expected 1 to 65535"):
            serve(board, port)
        result = CliRunner().invoke(main, ["serve", "--port", str(port), "--bitstreams", str(tmp_path)])
        assert result.exit_code == 2 and "65535" in result.stderr
    for device in ("remote:host:0", "remote:host:65536", "remote:secret@host:x", "remote:::1", "remote:[::1]x"):
        with pytest.raises(
            ValueError, match=r"found device 'remote:.*expected remote:HOST or remote:HOST:PORT"
        ) as error:
            open_device(device, CONFIG)
        assert "secret" not in str(error.value)


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "[::1]"])
def test_the_printed_line_can_be_used(tmp_path, monkeypatch, address):
    if ":" in address and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    opened = []

    def use(server: Server) -> None:
        assert logging.root.manager.disable == logging.WARNING, "errors of its calls would not be shown"
        device = f"remote:{address if '.' in address else '[::1]'}:{server.port}"
        open_device(device, CONFIG, bitstreams=tmp_path / "placeholder").close()
        opened.append(f"--device {device} ")

    monkeypatch.setattr(Server, "wait_for_termination", use)
    result = CliRunner().invoke(main, ["serve", "--port", "0", "--address", address, "--bitstreams", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (opened[0] in result.stdout and "--ip [::1] " in result.stdout) or "." in address


def test_servers_that_ended_or_did_not_begin_leave_no_descriptors():
    def open_descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    board = EmulatedBoard(EmulatorDevice(CONFIG))
    taken, port = serve(board, 0)
    before = None
    for _ in range(4):
        serve(board, 0)[0].stop()
        with pytest.raises(OSError, match="is taken; give another --port"):
            serve(board, port)
        before = before or open_descriptors()
    assert open_descriptors() == before
    taken.stop()


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


def test_a_board_whose_port_is_closed_does_not_refuse():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(DeviceError, match="no board answers at 127"):
            connect("127.0.0.1", probe.getsockname()[1])


def test_serving_all_interfaces_warns_and_makes_a_token(tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "wait_for_termination", lambda self: None)
    result = CliRunner().invoke(main, ["serve", "--port", "0", "--address", "0.0.0.0", "--bitstreams", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "warning: listens on all interfaces: whoever knows the token drives the board" in result.stderr
    assert (
        "--device remote:" in result.stdout
        and f"@{socket.gethostname()}:" in result.stdout
        and "pynq.remote.selftest" not in result.stdout
    )
    again = CliRunner().invoke(main, ["serve", "--port", "0", "--address", "0.0.0.0", "--bitstreams", str(tmp_path)])
    assert result.stdout.split("remote:")[1].split("@")[0] != again.stdout.split("remote:")[1].split("@")[0]
    local = CliRunner().invoke(main, ["serve", "--port", "0", "--bitstreams", str(tmp_path)])
    assert not local.stderr and "pynq.remote.selftest" in local.stdout
