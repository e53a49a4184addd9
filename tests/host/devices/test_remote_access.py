"""A served board has one owner at a time and asks for its token."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ditto_zynq.host.common.errors import DeviceError
from ditto_zynq.host.devices.emulated_board import placeholder_bitstream
from ditto_zynq.host.devices.opening import open_device
from ditto_zynq.host.devices.remote_access import Lease, Refused
from ditto_zynq.host.devices.remote_board import FIRMWARE

from tests.hls.configs import SHIPPED as CONFIG
from tests.host.devices.served import LIMITS, Client, Status, assert_refused


def test_one_owner_at_a_time(served):
    one, other = Client(served.port), Client(served.port)
    one.configure()
    held = one.allocate(64)
    one.fill(held, 64 * b"1")
    mapping = one.map()
    for call, *arguments in (
        (other.configure,),
        (other.allocate, 64),
        (other.map,),
        (other.read, mapping, 0),
        (other.write, mapping, 0x40, 7),
        (other.content, held),
        (other.address, held),
        (other.free, held),
        (other.exists, FIRMWARE + "design.bin"),
    ):
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


@pytest.mark.parametrize("served", [{"token": "open sesame"}], indirect=True)
def test_tokens(served, tmp_path):
    for token in (None, "open", "open sesamf"):
        stranger = Client(served.port, token=token)
        for call, *arguments in (
            (stranger.exists, "/proc/version"),
            (stranger.read_file, "/proc/version"),
            (stranger.map,),
            (stranger.allocate, 64),
            (stranger.write_file, "/tmp/x"),
        ):
            assert_refused(Status.UNAUTHENTICATED, "expected the board's", call, *arguments)
    assert Client(served.port, token="open sesame").allocate(64)
    served.clock.now += 1000
    bits = placeholder_bitstream(CONFIG, tmp_path).path.parent
    open_device(f"remote:open sesame@127.0.0.1:{served.port}", CONFIG, bitstreams=bits).close()
    with pytest.raises(DeviceError, match="refused: found no token, or another one"):
        open_device(f"remote:127.0.0.1:{served.port}", CONFIG, bitstreams=bits)
