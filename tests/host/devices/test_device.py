"""Every device that there is: the same bits, in every execution flow, and those of the integer reference."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ditto_zynq.hls.build.bitstreams import find_bitstream
from ditto_zynq.host.devices.board import BoardDevice
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.emulated_board import EmulatedBoard, placeholder_bitstream
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.devices.remote_board import serve
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.selftest import default_batch, selftest
from ditto_zynq.host.runtime.session import FLOWS

from tests.host.devices.emulated import CONFIG, emulated, opened

KINDS = ["emulator", "csim", "pynq-emulator", "pynq-csim", "remote", pytest.param("board", marks=pytest.mark.board)]


@pytest.fixture(params=KINDS)
def device(request, tmp_path, csim_cache):
    """Every device that there is, for the same tests."""
    kind = request.param
    if kind == "board":
        device = BoardDevice(find_bitstream(CONFIG))
    elif kind == "remote":
        from pynq.pl_server.remote_device import RemoteDevice

        server, port = serve(emulated(counting=True), 0)
        request.addfinalizer(server.stop)
        bitstream = placeholder_bitstream(CONFIG, tmp_path)
        device = BoardDevice(bitstream, RemoteDevice(0, "127.0.0.1", port), cache=tmp_path, locks=tmp_path)
    else:
        csim = kind.endswith("csim")
        fabric = CSimDevice(CONFIG, cache=csim_cache) if csim else EmulatorDevice(CONFIG)
        device = opened(EmulatedBoard(fabric), tmp_path) if kind.startswith("pynq") else fabric
    yield device
    device.close()


def test_every_device_computes_the_same_samples(device, tiny_model, expected):
    model = Model(tiny_model, device)
    for flow in FLOWS:
        images = model.generate(3, None, 5, 2, flow, progress=False)
        assert np.array_equal(images.samples, expected), flow
    assert images.record is not None and images.record.counters["cycles"].min() > 0


def test_every_device_equals_the_integer_reference(device):
    checks = [check for check, _ in zip(selftest(device), range(4), strict=False)]
    assert [check.name for check in checks] == ["registers", "memory", "layers, network 0", "layers, network 1"]
    assert all(check.passed for check in checks), checks


def test_the_throughput_of_a_simulated_board_is_that_of_one_image(device):
    assert default_batch(device) == 1
    assert default_batch(SimpleNamespace(name="Pynq-ZU")) == default_batch(SimpleNamespace(name="zcu104")) == 16
