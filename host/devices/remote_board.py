"""An emulated board on the network: the server side of PYNQ 4.0's gRPC protocol, for unmodified ``RemoteDevice`` clients.

pynq ships the protocol and its client; the server is part of AMD's board images. What a client can ask for: files (the FPGA
manager's among them), registers, buffers. All calls run in one event loop, one after the other, so that none sees another one's
half-done work. A new bitstream frees all buffers, and a new owner finds a board that was just switched on.
"""

from __future__ import annotations

import asyncio
import errno
import posixpath
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import numpy as np
from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    gpio_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)

from ...hls.contract.arithmetic import ceil_divide
from ...hls.machine.boards import find_board
from .emulated_board import Allocation, EmulatedBoard
from .remote_access import RELEASE, SERVICE, Guard, Lease, Limits, Refused, illegal, is_loopback, too_much, unknown

PORT = 7967  # pynq's
CHUNK = 2 << 20
FIRMWARE = "/lib/firmware/"
FPGA_MANAGER = "/sys/class/fpga_manager/fpga0/"
CONFIGURES = f"{FPGA_MANAGER}firmware"
MEMINFO = "/proc/meminfo"
WRITABLE = (CONFIGURES, f"{FPGA_MANAGER}flags")
WRITABLE_FOLDERS = (FIRMWARE, "/tmp/")
OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 16),  # of a connection
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),  # a client's machine that is gone
    ("grpc.max_connection_idle_ms", 3_600_000),
)


def serve(
    board: EmulatedBoard,
    port: int = PORT,
    address: str = "127.0.0.1",
    token: str | None = None,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Server, int]:
    """Start serving ``board``; returns the server and its port (a free one for ``port`` 0).

    ``token``: what clients must know (``clock``: seconds that leases are counted in). OSError where the port is taken or the
    address is none of this machine, ValueError for a port out of range and for an address that other machines reach without a
    token.
    """
    if not 0 <= port < 1 << 16:
        raise ValueError(f"found port {port}, expected 1 to 65535, or 0 for a free one")
    is_local = is_loopback(address)
    if token is None and not is_local:
        raise ValueError(f"other machines reach {address}: give a token that clients must know")
    if token is not None and not (token.isascii() and token.isprintable() and token):
        raise ValueError("found a token that is empty or not of printable ASCII characters, expected one that is")
    _check_place(address.strip("[]"), port)
    server = Server(board, place_of(address, port), token, Limits() if limits is None else limits, clock)
    return server, server.port


def place_of(address: str, port: int) -> str:
    """``HOST:PORT``, an address of IPv6 in brackets."""
    host = address.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_place(host: str, port: int) -> None:
    """OSError, with what to do, where this process cannot listen."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(f"port {port} of {host} is taken; give another --port") from error
            raise OSError(
                f"cannot listen at {place_of(host, port)} ({error.strerror}); give an --address of this machine, and a --port "
                "that this user may take"
            ) from error


class Server:
    """A board's gRPC server and the thread of its event loop. OSError where it cannot listen."""

    def __init__(
        self, board: EmulatedBoard, address: str, token: str | None, limits: Limits, clock: Callable[[], float]
    ):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        start = self._start(board, address, token, limits, clock)
        try:
            self.port = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        except BaseException as error:
            self._end_loop()
            if isinstance(error, RuntimeError):  # gRPC's
                raise OSError(f"cannot listen at {address} ({error}); give another --port") from error
            raise

    async def _start(
        self, board: EmulatedBoard, address: str, token: str | None, limits: Limits, clock: Callable[[], float]
    ) -> int:
        files, registers, buffers = _Files(board, limits), _Registers(board, limits), _Buffers(board, limits)

        def hand_over() -> None:
            for service in (files, registers, buffers):
                service.start()
            board.switch_on()

        lease = Lease(limits.lease_s, hand_over, clock)
        guard = Guard(lease, token, limits, files.is_public)
        self._server = grpc.aio.server(interceptors=[guard], options=OPTIONS, maximum_concurrent_rpcs=limits.calls)
        files.configured = buffers.start
        remote_device_pb2_grpc.add_RemoteDeviceServicer_to_server(files, self._server)
        mmio_pb2_grpc.add_MmioServicer_to_server(registers, self._server)
        buffer_pb2_grpc.add_RemoteBufferServicer_to_server(buffers, self._server)
        gpio = gpio_pb2_grpc.GpioServicer()  # the design has no GPIO of the PS
        gpio_pb2_grpc.add_GpioServicer_to_server(gpio, self._server)
        release = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")  # the guard does it
        name = RELEASE.rpartition("/")[2]
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {name: release}),))
        bound = self._server.add_insecure_port(address)
        await self._server.start()
        return int(bound)

    def wait_for_termination(self) -> None:
        """Return when the server is stopped."""
        asyncio.run_coroutine_threadsafe(self._server.wait_for_termination(), self._loop).result()

    def stop(self) -> None:
        """End all calls and give the port back."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._server.stop(0), self._loop).result()
            self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Files(remote_device_pb2_grpc.RemoteDeviceServicer):
    """Files in memory, those of the board and those of its owner. Writing a name to the FPGA manager's ``firmware`` configures
    the board and calls ``configured``."""

    def __init__(self, board: EmulatedBoard, limits: Limits):
        self._board, self._limits = board, limits
        self.configured: Callable[[], None] = lambda: None
        architecture = find_board(board.fabric.config.board).architecture
        self._public = {
            "/proc/version": f"Linux version 6.6.0 (emulated) {architecture}\n".encode(),
            "/proc/device-tree/chosen/pynq_board": board.name.encode() + b"\0",
        }
        self.start()

    def start(self) -> None:
        """Leave those files only that there are when the board is switched on."""
        self._files = {f"{FPGA_MANAGER}state": b"unknown\n", f"{FPGA_MANAGER}flags": b"0\n"}

    def is_public(self, method: str, request: Any) -> bool:
        """Whether a call only asks what board this is."""
        return method.rpartition("/")[2] in ("existsfile", "readfile") and request.file_path in self._public

    def existsfile(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.ExistsFileResponse(exists=self._content(request.file_path) is not None)

    def readfile(self, request: Any, context: Any) -> Iterator[Any]:
        content = self._content(request.file_path)
        if content is None:
            raise unknown(f"{self._short(request.file_path)} does not exist on {self._board.name}")
        for start in range(0, max(len(content), 1), CHUNK):
            yield remote_device_pb2.ReadFileResponse(data=content[start : start + CHUNK])

    async def writefile(self, requests: AsyncIterator[Any], context: Any) -> Any:
        path, content = "", bytearray()
        async for request in requests:
            path = path or request.file_path
            self._check_path(path, request.file_path)
            content += request.data
            if len(content) > self._limits.file_bytes:
                raise too_much(
                    f"found a file of {len(content)} bytes so far, expected at most {self._limits.file_bytes}"
                )
        if not path:
            raise illegal("found a file without a name or content")
        if path not in self._files and len(self._files) >= self._limits.files:
            raise too_much(f"found {len(self._files) + 1} files, expected at most {self._limits.files}")
        if path == CONFIGURES:
            self._configure(bytes(content))
        self._files[path] = bytes(content)
        return remote_device_pb2.WriteFileResponse()

    def set_bitstream_attrs(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.SetBitstreamAttrsResponse()

    def _content(self, path: str) -> bytes | None:
        if path == MEMINFO:
            return self._board.read_file(path)
        return self._public.get(path, self._files.get(path))

    def _check_path(self, path: str, again: str) -> None:
        if len(path) > self._limits.path_length or path != again or posixpath.normpath(path) != path:
            raise illegal(f"found path {self._short(again)!r}, expected one plain path in all of a stream")
        folder = posixpath.dirname(path) + "/"
        if path not in WRITABLE and folder not in WRITABLE_FOLDERS:
            expected = ", ".join((*WRITABLE, *(f"{each}NAME" for each in WRITABLE_FOLDERS)))
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, f"found {self._short(path)!r}, expected one of {expected}")

    def _configure(self, content: bytes) -> None:
        name = content[: self._limits.path_length].decode(errors="replace").strip()
        if FIRMWARE + name not in self._files:
            raise unknown(f"{self._short(FIRMWARE + name)} does not exist on {self._board.name}")
        self.configured()
        self._board.configure()
        self._files[f"{FPGA_MANAGER}state"] = b"operating\n"

    def _short(self, path: str) -> str:
        return path[: self._limits.path_length]


class _Registers(mmio_pb2_grpc.MmioServicer):
    """Registers by mappings of an address range."""

    def __init__(self, board: EmulatedBoard, limits: Limits):
        self._board, self._limits = board, limits
        self.start()

    def start(self) -> None:
        self._mappings: dict[str, tuple[int, int]] = {}
        self._names: dict[tuple[int, int], str] = {}

    def get_mmio(self, request: Any, context: Any) -> Any:
        place = request.base_addr, request.length
        if request.base_addr % 4:
            raise illegal(f"found registers at {request.base_addr:#x}, expected a multiple of 4")
        if place not in self._names:
            if len(self._names) >= self._limits.mappings:
                raise too_much(
                    f"found {len(self._names) + 1} mappings of registers, expected at most {self._limits.mappings}"
                )
            name = str(uuid.uuid4())
            self._names[place], self._mappings[name] = name, place
        return mmio_pb2.GetMmioResponse(status=True, mmio_id=self._names[place])

    def read(self, request: Any, context: Any) -> Any:
        if request.length not in (1, 2, 4):  # the response has room for 32 bits
            raise illegal(f"found a read of {request.length} bytes, expected 1, 2 or 4")
        words = self._board.read_registers(self._address(request, request.length), 4)
        return mmio_pb2.ReadResponse(status=True, data=int.from_bytes(words[: request.length], "little"))

    def write(self, request: Any, context: Any) -> Any:
        if len(request.data) > self._limits.access_bytes:
            raise too_much(f"found {len(request.data)} bytes, expected at most {self._limits.access_bytes}")
        data = request.data.ljust(ceil_divide(len(request.data), 4) * 4, b"\0")
        self._board.write_registers(self._address(request, len(data)), data)
        return mmio_pb2.WriteResponse(status=True)

    def _address(self, request: Any, length: int) -> int:
        if request.mmio_id not in self._mappings:
            raise unknown("found no such mapping of registers")
        base, size = self._mappings[request.mmio_id]
        if request.offset % 4:
            raise illegal(f"found offset {request.offset:#x}, expected a multiple of 4")
        if request.offset + length > size:
            raise Refused(
                grpc.StatusCode.OUT_OF_RANGE, f"found {length} bytes at {request.offset:#x}, expected them in {size}"
            )
        return int(base + request.offset)


class _Buffers(buffer_pb2_grpc.RemoteBufferServicer):
    """Buffers by their ids. What a client writes reaches the accelerator with its flush."""

    def __init__(self, board: EmulatedBoard, limits: Limits):
        self._board, self._limits = board, limits
        self._buffers: dict[str, Allocation] = {}

    def start(self) -> None:
        """Free them all."""
        for name in list(self._buffers):
            self._free(name)

    def allocate(self, request: Any, context: Any) -> Any:
        if request.size < 1:
            raise illegal(f"found a buffer of {request.size} bytes, expected at least 1")
        if len(self._buffers) >= self._limits.buffers:
            raise too_much(f"found {len(self._buffers) + 1} buffers, expected at most {self._limits.buffers}")
        try:
            allocation = self._board.default_memory.reserve(request.size)
        except RuntimeError as error:
            raise too_much(str(error)) from error
        name = str(uuid.uuid4())
        self._buffers[name] = allocation
        return buffer_pb2.AllocateResponse(buffer_id=name)

    async def write(self, requests: AsyncIterator[Any], context: Any) -> Any:
        name, start = None, 0
        async for request in requests:
            name = request.buffer_id if name is None else name
            host = self._buffer(request).host
            end = start + len(request.data)
            if request.buffer_id != name or end > host.size:
                raise Refused(
                    grpc.StatusCode.OUT_OF_RANGE, f"found bytes up to {end}, expected {host.size} of one buffer"
                )
            host[start:end] = np.frombuffer(request.data, np.uint8)
            start = end
        return buffer_pb2.BufferWriteResponse()

    def read(self, request: Any, context: Any) -> Iterator[Any]:
        host = self._buffer(request).host
        for start in range(0, host.size, CHUNK):
            yield buffer_pb2.BufferReadResponse(data=host[start : start + CHUNK].tobytes())

    def flush(self, request: Any, context: Any) -> Any:
        allocation = self._buffer(request)
        self._board.flush(allocation, 0, 0, allocation.host.size)
        return buffer_pb2.FlushResponse()

    def invalidate(self, request: Any, context: Any) -> Any:
        allocation = self._buffer(request)
        self._board.invalidate(allocation, 0, 0, allocation.host.size)
        return buffer_pb2.InvalidateResponse()

    def physical_address(self, request: Any, context: Any) -> Any:
        return buffer_pb2.AddressResponse(address=self._buffer(request).simulated.address)

    def virtual_address(self, request: Any, context: Any) -> Any:
        return self.physical_address(request, context)

    def freebuffer(self, request: Any, context: Any) -> Any:
        if request.buffer_id in self._buffers:
            self._free(request.buffer_id)
        return buffer_pb2.FreeBufferResponse()

    def _buffer(self, request: Any) -> Allocation:
        if request.buffer_id not in self._buffers:
            raise unknown("found no such buffer: it was freed, or the board was configured again")
        return self._buffers[request.buffer_id]

    def _free(self, name: str) -> None:
        self._board.default_memory.return_pointer(self._buffers.pop(name).simulated.address)
