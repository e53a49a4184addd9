"""A client of a served board that sends what it likes, and what a board must still do for others."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import pytest
from ditto_zynq.hls.build.handoff import ACCELERATOR, cells
from ditto_zynq.host.devices.remote_access import CLIENT, Limits
from ditto_zynq.host.devices.remote_board import CONFIGURES, FIRMWARE
from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    gpio_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)

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
