"""Clients of served boards."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from ditto_zynq.host.common.errors import DeviceError
from ditto_zynq.host.devices.board import BoardDevice
from ditto_zynq.host.devices.emulated_board import placeholder_bitstream
from ditto_zynq.host.devices.opening import open_device
from ditto_zynq.host.devices.remote_client import connect
from ditto_zynq.host.runtime.model import Model

from tests.hls.configs import SHIPPED as CONFIG


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


def test_a_board_whose_port_is_closed_does_not_refuse():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(DeviceError, match="no board answers at 127"):
            connect("127.0.0.1", probe.getsockname()[1])
