"""Who may do what with a served board: a token, one owner at a time, and limits for what a client takes and how long it waits.

A client is known by what it says it is (our own clients send a random name, so that they may reconnect) or by its connection.
What it may not do is refused with a status of gRPC's that says why, and changes nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from ..common.errors import DeviceError

AUTHORIZATION, CLIENT = "authorization", "ditto-client"  # metadata
SERVICE = "ditto_zynq.Board"  # what PYNQ's protocol has not
RELEASE = f"/{SERVICE}/release"
LONGEST_NAME = 64


@dataclass(frozen=True)
class Limits:
    """What one client may take, and how long it may wait; it is the board's owner: there is one at a time."""

    file_bytes: int = 64 << 20  # the largest bitstream of a board here has 27 MB
    files: int = 16
    path_length: int = 256
    buffers: int = 256
    mappings: int = 256
    access_bytes: int = 4096  # of one access to registers
    streams: int = 4  # at a time
    calls: int = 64  # at a time, of all clients
    idle_s: float = 30.0  # that a call or a stream may wait for its client's next message
    lease_s: float = 60.0  # that an owner may do nothing before another client may have the board


class Refused(Exception):
    """Raised for what a client may not do, with gRPC's ``status`` and why."""

    def __init__(self, status: grpc.StatusCode, why: str):
        super().__init__(why)
        self.status = status


def illegal(why: str) -> Refused:
    """The refusal of an argument that no client may give."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, why)


def too_much(why: str) -> Refused:
    """The refusal of more than one client may have."""
    return Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, why)


def unknown(why: str) -> Refused:
    """The refusal of what is not there."""
    return Refused(grpc.StatusCode.NOT_FOUND, why)


class Lease:
    """The board's one owner. ``hand_over`` is called before another client has it; ``clock`` counts seconds."""

    def __init__(self, lease_s: float, hand_over: Callable[[], None], clock: Callable[[], float] = time.monotonic):
        self._lease_s, self._hand_over, self._clock = lease_s, hand_over, clock
        self._owner: str | None = None
        self._used = 0.0

    def hold(self, client: str) -> None:
        """Make ``client`` the owner, or say that it still is. Refused where another one has the board and used it lately."""
        now = self._clock()
        if client != self._owner:
            idle = now - self._used
            if self._owner is not None and idle < self._lease_s:
                raise Refused(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"the board is in use by another client, idle for {idle:.0f} s: wait until it has finished, or until it "
                    f"has been idle for {self._lease_s:g} s",
                )
            self._hand_over()
            self._owner = client
        self._used = now

    def release(self, client: str) -> None:
        """Let other clients have the board where ``client`` is its owner; else nothing happens."""
        if client == self._owner:
            self._owner = None
            self._hand_over()


class Guard(grpc.aio.ServerInterceptor):
    """Lets those call who know the ``token``, if there is one, and of these one at a time own the board."""

    def __init__(self, lease: Lease, token: str | None, limits: Limits, is_public: Callable[[str, Any], bool]):
        """``is_public``: whether a call, by its method and request, changes nothing and says nothing of its owner."""
        self._lease, self._limits, self._is_public = lease, limits, is_public
        self._token = None if token is None else f"Bearer {token}".encode()
        self._streams: dict[str, int] = {}

    async def intercept_service(self, continuation: Callable[..., Awaitable[Any]], details: Any) -> Any:
        """gRPC's handler of a call, behind this guard's checks; None for a method that the board does not have."""
        metadata = dict(details.invocation_metadata or ())
        handler = await continuation(details)
        if handler is None:
            return None
        given = str(metadata.get(AUTHORIZATION, "")).encode()
        known = self._token is None or hmac.compare_digest(given, self._token)

        def client_of(context: Any) -> str:
            name = str(metadata.get(CLIENT, ""))
            if not known:
                raise Refused(grpc.StatusCode.UNAUTHENTICATED, "found no token, or another one, expected the board's")
            return f"name {name[:LONGEST_NAME]}" if name else f"connection {context.peer()}"

        coding = handler.request_deserializer, handler.response_serializer
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._streamed(client_of, handler.stream_unary), *coding)
        # as streams of messages, of which there is one: nothing else ends a call whose only message never comes
        if handler.response_streaming:
            serve = self._streaming(details.method, client_of, handler.unary_stream)
            return grpc.stream_stream_rpc_method_handler(serve, *coding)
        serve = self._single(details.method, client_of, handler.unary_unary)
        return grpc.stream_unary_rpc_method_handler(serve, *coding)

    def _single(self, method: str, client_of: Callable[[Any], str], serve: Callable[..., Any]) -> Callable[..., Any]:
        async def call(requests: AsyncIterator[Any], context: Any) -> Any:
            async with _Answer(context):
                client, request = client_of(context), await self._only(context)
                if method == RELEASE:
                    self._lease.release(client)
                elif not self._is_public(method, request):
                    self._lease.hold(client)
                response = serve(request, context)
                return await response if inspect.isawaitable(response) else response

        return call

    def _streamed(self, client_of: Callable[[Any], str], serve: Callable[..., Any]) -> Callable[..., Any]:
        async def call(requests: AsyncIterator[Any], context: Any) -> Any:
            async with _Answer(context), self._stream(client_of(context)) as client:
                return await serve(self._arriving(client, context), context)

        return call

    def _streaming(self, method: str, client_of: Callable[[Any], str], serve: Callable[..., Any]) -> Callable[..., Any]:
        async def call(requests: AsyncIterator[Any], context: Any) -> None:
            async with _Answer(context):
                client, request = client_of(context), await self._only(context)
                if not self._is_public(method, request):
                    self._lease.hold(client)
                async with self._stream(client):
                    for response in serve(request, context):
                        await self._in_time(context.write(response))

        return call

    async def _arriving(self, client: str, context: Any) -> AsyncIterator[Any]:
        """Messages of the board's owner, as long as they come in time.

        They are read one by one: the exception that ends gRPC's iterator would keep the stream open until garbage is collected.
        """
        self._lease.hold(client)
        while True:
            message = await self._in_time(context.read())
            self._lease.hold(client)  # it waited: another client may have the board by now
            if message is grpc.aio.EOF:
                return
            yield message

    async def _only(self, context: Any) -> Any:
        """The message of a call that has one, and no other."""
        message = await self._in_time(context.read())
        if message is grpc.aio.EOF or await self._in_time(context.read()) is not grpc.aio.EOF:
            raise illegal("found a call without its message, or with several, expected one")
        return message

    async def _in_time(self, waiting: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(waiting, self._limits.idle_s)
        except asyncio.TimeoutError:
            raise Refused(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"the call waited {self._limits.idle_s:g} s for its client"
            ) from None

    def _stream(self, client: str) -> _Stream:
        return _Stream(self._streams, client, self._limits.streams)


class _Stream:
    """One of a client's streams, for as long as it is open."""

    def __init__(self, open_streams: dict[str, int], client: str, most: int):
        self._open, self._client, self._most = open_streams, client, most

    async def __aenter__(self) -> str:
        count = self._open.get(self._client, 0)
        if count >= self._most:
            raise too_much(f"found {count} open streams, expected at most {self._most} at a time")
        self._open[self._client] = count + 1
        return self._client

    async def __aexit__(self, *_: object) -> None:
        self._open[self._client] -= 1
        if not self._open[self._client]:
            del self._open[self._client]


class _Answer:
    """Turns what is refused into a status."""

    def __init__(self, context: Any):
        self._context = context

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Refused):
            await self._context.abort(error.status, str(error))
        if isinstance(error, DeviceError):
            await self._context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        if isinstance(error, MemoryError):
            await self._context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the server has not as much memory")
        if isinstance(error, NotImplementedError):
            await self._context.abort(grpc.StatusCode.UNIMPLEMENTED, "this board has no such thing")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address. OSError where it is none."""
    try:
        found = socket.getaddrinfo(address.strip("[]"), None)
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(f"found address {address!r}, expected one of this machine's, such as 127.0.0.1") from error
    return all(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found)
