"""A served board has one owner at a time, asks for its token, and listens where it says."""

from __future__ import annotations

import gc
import logging
import os
import re
import socket
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.common.errors import DeviceError, DeviceRefused
from ditto_zynq.host.devices.board import BoardDevice, answering
from ditto_zynq.host.devices.emulated_board import EmulatedBoard, placeholder_bitstream
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.devices.opening import open_device
from ditto_zynq.host.devices.remote_access import Lease, Refused
from ditto_zynq.host.devices.remote_board import FIRMWARE, Server, serve
from ditto_zynq.host.devices.remote_client import connect
from ditto_zynq.host.runtime.model import Model

from tests.hls.configs import SHIPPED as CONFIG
from tests.host.devices.served import LIMITS, Client, Status, assert_refused

# ----------------------------------------------------------------------------------------------------- one owner


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


@pytest.mark.parametrize("address", ["127.0.0.1", *(("::1", "[::1]") if has_ipv6() else ())])
def test_the_printed_line_can_be_used(tmp_path, monkeypatch, address):
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


@pytest.mark.parametrize("address", ["::1", "[::1]"])
def test_the_printed_line_of_ipv6(tmp_path, monkeypatch, address):
    """Without listening, for not every machine has IPv6: what is printed is what is connected to."""
    server, connected = SimpleNamespace(wait_for_termination=lambda: None, stop=lambda: None), []

    def record(*place: object) -> None:
        connected.append(place)
        raise DeviceError("nobody")

    monkeypatch.setattr("ditto_zynq.host.devices.remote_board.serve", lambda *_: (server, 1234))
    monkeypatch.setattr("ditto_zynq.host.devices.remote_client.connect", record)
    result = CliRunner().invoke(main, ["serve", "--address", address, "--bitstreams", str(tmp_path)])
    assert result.exit_code == 0 and "--ip [::1] --port 1234 " in result.stdout, result.output
    [device] = re.findall(r"--device (\S+)", result.stdout)
    with pytest.raises(DeviceError, match="nobody"):
        open_device(device, CONFIG, bitstreams=tmp_path / "placeholder")
    assert connected == [("[::1]", 1234, None)]


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
