"""Boards over the network, as pynq's driver has them, with a token and a name that a server knows this client by."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from typing import Any

import grpc
from pynq.pl_server.remote_device import PYNQ_PORT, RemoteDevice

from ..common.errors import DeviceError, DeviceRefused
from .board import answering
from .remote_access import AUTHORIZATION, CLIENT, RELEASE


class _Metadata(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor):
    """Metadata that is sent with every call."""

    def __init__(self, metadata: dict[str, str]):
        self._metadata = tuple(metadata.items())

    def _send(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        metadata = (*(details.metadata or ()), *self._metadata)
        return continuation(details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = _send


class NamedDevice(RemoteDevice):
    """pynq's remote device, whose calls say who makes them. ``token``: what the server asks for, if it does."""

    def __init__(self, host: str, port: int, token: str | None):
        metadata = {CLIENT: str(uuid.uuid4())}
        self._sent = _Metadata(metadata if token is None else metadata | {AUTHORIZATION: f"Bearer {token}"})
        super().__init__(0, host, port)

    @property
    def client(self) -> Any:
        """pynq's holder of the channel."""
        return self._client

    @client.setter
    def client(self, made: Any) -> None:
        made.channel = grpc.intercept_channel(made.channel, self._sent)
        self._client = made

    def release(self) -> None:
        """Let other clients have the board. Servers that know no owners, as those of AMD's images, do nothing."""
        with contextlib.suppress(grpc.RpcError):
            self._client.channel.unary_unary(RELEASE)(b"", timeout=5)


def connect(host: str, port: int | None = None, token: str | None = None) -> RemoteDevice:
    """Connect to a board that serves PYNQ's gRPC protocol (pynq 4), by default at pynq's own port. DeviceError where none
    answers, or where it does not let this client in."""
    name = f"{host}:{port or PYNQ_PORT}"
    try:
        with answering(name):
            return NamedDevice(host, port or PYNQ_PORT, token)
    except DeviceRefused:
        raise
    except RuntimeError as error:  # DeviceError is one too
        raise DeviceError(f"no board answers at {name} ({error})") from error
