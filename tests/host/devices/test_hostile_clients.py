"""Clients of a served board that mean no good, or are just two: each is refused with a status, and the board goes on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import threading
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from ditto_zynq.hls.machine.isa import CONTROL, DESCRIPTOR_COUNT, ERROR, START, Region, base_registers
from ditto_zynq.host.devices.remote_board import CONFIGURES, FIRMWARE, _Files
from ditto_zynq.host.program.compiler import compile_program
from pynq.remote import buffer_pb2, gpio_pb2, remote_device_pb2

from tests.helpers import wait_until
from tests.hls.configs import SHIPPED as CONFIG
from tests.host.devices.served import BASE, LIMITS, Client, Status, assert_refused, assert_serves

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


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "/lib/firmware/../../etc/passwd",
        "/lib/firmware/a/b",
        "/tmp/../etc/x",
        "/proc/version",
        "/proc/device-tree/chosen/pynq_board",
        "/proc/meminfo",
        "/lib/firmware/",
        "/tmp/" + 300 * "x",
        "/lib/firmware//x",
        "\0",
    ],
)
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
        "ditto_zynq.host.devices.remote_access.asyncio",
        SimpleNamespace(wait_for=wait_for, TimeoutError=asyncio.TimeoutError),
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
