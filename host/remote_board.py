"""An emulated board on the network: the server side of PYNQ 4.0's gRPC protocol, for unmodified ``RemoteDevice`` clients.

pynq ships the protocol and its client; the server is part of AMD's board images. What a client can ask for: files (the FPGA
manager's among them), registers, buffers. A new bitstream frees all buffers, so that a killed client leaves nothing behind.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    gpio_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)

from ..hls.boards import find_board
from .emulated_board import Allocation, EmulatedBoard

PORT = 7967  # pynq's
CHUNK = 2 << 20
FIRMWARE = "/lib/firmware/"
FPGA_MANAGER = "/sys/class/fpga_manager/fpga0/"


def serve(board: EmulatedBoard, port: int = PORT, address: str = "127.0.0.1") -> tuple[grpc.Server, int]:
    """Start serving ``board``; returns the server and its port (a free one for ``port`` 0). OSError where it is taken."""
    server = grpc.server(futures.ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
    buffers = _Buffers(board)
    remote_device_pb2_grpc.add_RemoteDeviceServicer_to_server(_Files(board, buffers.free_all), server)
    mmio_pb2_grpc.add_MmioServicer_to_server(_Registers(board), server)
    buffer_pb2_grpc.add_RemoteBufferServicer_to_server(buffers, server)
    gpio_pb2_grpc.add_GpioServicer_to_server(gpio_pb2_grpc.GpioServicer(), server)  # the design has no GPIO of the PS
    try:
        bound = server.add_insecure_port(f"{address}:{port}")
    except RuntimeError as error:
        raise OSError(f"port {port} of {address} is taken; give another --port") from error
    server.start()
    return server, bound


class _Files(remote_device_pb2_grpc.RemoteDeviceServicer):
    """Files in memory. Writing a name to the FPGA manager's ``firmware`` configures the board."""

    def __init__(self, board: EmulatedBoard, free_buffers: Callable[[], None]):
        self._board, self._free_buffers = board, free_buffers
        architecture = "aarch64" if find_board(board.fabric.config.board).zynq_ultrascale else "armv7l"
        self._files = {
            "/proc/version": f"Linux version 6.6.0 (emulated) {architecture}\n".encode(),
            "/proc/device-tree/chosen/pynq_board": board.name.encode() + b"\0",
            f"{FPGA_MANAGER}state": b"unknown\n",
            f"{FPGA_MANAGER}flags": b"0\n",
        }

    def existsfile(self, request: Any, context: Any) -> Any:
        exists = request.file_path in self._files or request.file_path == "/proc/meminfo"
        return remote_device_pb2.ExistsFileResponse(exists=exists)

    def readfile(self, request: Any, context: Any) -> Iterator[Any]:
        path = request.file_path
        content = self._board.read_file(path) if path == "/proc/meminfo" else self._files.get(path)
        if content is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"{path} does not exist on {self._board.name}")
            return
        for start in range(0, max(len(content), 1), CHUNK):
            yield remote_device_pb2.ReadFileResponse(data=content[start : start + CHUNK])

    def writefile(self, requests: Iterator[Any], context: Any) -> Any:
        path, content = "", b""
        for request in requests:
            path, content = request.file_path, content + request.data
        self._files[path] = content
        if path == f"{FPGA_MANAGER}firmware":
            self._configure(content.decode().strip(), context)
        return remote_device_pb2.WriteFileResponse()

    def _configure(self, name: str, context: Any) -> None:
        if FIRMWARE + name not in self._files:
            context.abort(grpc.StatusCode.NOT_FOUND, f"{FIRMWARE}{name} does not exist on {self._board.name}")
        self._free_buffers()
        self._board.configure()
        self._files[f"{FPGA_MANAGER}state"] = b"operating\n"

    def set_bitstream_attrs(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.SetBitstreamAttrsResponse()


class _Registers(mmio_pb2_grpc.MmioServicer):
    def __init__(self, board: EmulatedBoard):
        self._board = board
        self._bases: dict[str, int] = {}

    def get_mmio(self, request: Any, context: Any) -> Any:
        name = str(uuid.uuid4())
        self._bases[name] = request.base_addr
        return mmio_pb2.GetMmioResponse(status=True, mmio_id=name)

    def read(self, request: Any, context: Any) -> Any:
        address = self._bases[request.mmio_id] + request.offset
        words = self._board.read_registers(address, max(request.length, 4))
        return mmio_pb2.ReadResponse(status=True, data=int.from_bytes(words[: request.length], "little"))

    def write(self, request: Any, context: Any) -> Any:
        data = request.data.ljust(-(-len(request.data) // 4) * 4, b"\0")
        self._board.write_registers(self._bases[request.mmio_id] + request.offset, data)
        return mmio_pb2.WriteResponse(status=True)


class _Buffers(buffer_pb2_grpc.RemoteBufferServicer):
    """Buffers by their ids. What a client writes reaches the accelerator with its flush."""

    def __init__(self, board: EmulatedBoard):
        self._board = board
        self._buffers: dict[str, Allocation] = {}

    def allocate(self, request: Any, context: Any) -> Any:
        try:
            allocation = self._board.default_memory.reserve(request.size)
        except RuntimeError as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            return buffer_pb2.AllocateResponse(msg=str(error))
        name = str(uuid.uuid4())
        self._buffers[name] = allocation
        return buffer_pb2.AllocateResponse(buffer_id=name)

    def write(self, requests: Iterator[Any], context: Any) -> Any:
        start = 0
        for request in requests:
            host = self._buffers[request.buffer_id].host
            host[start : start + len(request.data)] = bytearray(request.data)
            start += len(request.data)
        return buffer_pb2.BufferWriteResponse()

    def read(self, request: Any, context: Any) -> Iterator[Any]:
        host = self._buffers[request.buffer_id].host
        for start in range(0, host.size, CHUNK):
            yield buffer_pb2.BufferReadResponse(data=host[start : start + CHUNK].tobytes())

    def flush(self, request: Any, context: Any) -> Any:
        allocation = self._buffers[request.buffer_id]
        self._board.flush(allocation, 0, 0, allocation.host.size)
        return buffer_pb2.FlushResponse()

    def invalidate(self, request: Any, context: Any) -> Any:
        allocation = self._buffers[request.buffer_id]
        self._board.invalidate(allocation, 0, 0, allocation.host.size)
        return buffer_pb2.InvalidateResponse()

    def physical_address(self, request: Any, context: Any) -> Any:
        return buffer_pb2.AddressResponse(address=self._buffers[request.buffer_id].simulated.address)

    def virtual_address(self, request: Any, context: Any) -> Any:
        return self.physical_address(request, context)

    def freebuffer(self, request: Any, context: Any) -> Any:
        allocation = self._buffers.pop(request.buffer_id, None)
        if allocation is not None:
            self._board.default_memory.return_pointer(allocation.simulated.address)
        return buffer_pb2.FreeBufferResponse()

    def free_all(self) -> None:
        for name in list(self._buffers):
            allocation = self._buffers.pop(name)
            self._board.default_memory.return_pointer(allocation.simulated.address)
