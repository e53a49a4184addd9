"""Two devices beside each other: a difference is found, at its first byte. The C simulation is compared in test_csim.py."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import Region
from ditto_zynq.host.common.errors import DeviceError
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.runtime.agreement import compare
from ditto_zynq.host.runtime.model import Model


class Spoiled(EmulatorDevice):
    """An emulator of which one byte of a result is wrong."""

    def execute(self, run):
        super().execute(run)
        self.region(Region.ACTIVATIONS).data[100] ^= 1


def test_equal_devices_agree_step_by_step(tiny_model):
    one, other = (Model(tiny_model, EmulatorDevice(default_config("zcu104"), counting=False)) for _ in range(2))
    lines = list(compare(one, other, 2, 1, seed=3))
    assert [line.split(":")[0] for line in lines] == ["step 0", "step 1"]
    assert all(line.endswith("bytes of activations equal") for line in lines)
    for steps in (0, tiny_model.graph.steps + 1):
        with pytest.raises(ValueError, match=f"found {steps} steps, expected 1 to 6"):
            next(compare(one, other, steps, 1, 0))


def test_a_difference_is_named(tiny_model):
    one, other = (
        Model(tiny_model, kind(default_config("zcu104"), counting=False)) for kind in (Spoiled, EmulatorDevice)
    )
    with pytest.raises(DeviceError, match=r"step 0: byte 100 of ACTIVATIONS is \d+, in the emulator \d+"):
        list(compare(one, other, 1, 1, seed=3))
