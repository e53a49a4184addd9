"""Views of device memory are the memory itself, and none leaves its region."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.machine.isa import Region
from ditto_zynq.host.common.errors import DeviceError
from ditto_zynq.host.common.memory import SLACK, Memory


@pytest.fixture
def memory() -> Memory:
    """32 bytes of ACTIVATIONS: 0, 1, 2, ..."""
    storage = np.zeros(32 + SLACK, np.uint8)
    storage[:32] = np.arange(32)
    return Memory({Region.ACTIVATIONS: storage})


def test_a_view_is_the_memory_itself(memory):
    view = memory.view(Region.ACTIVATIONS, 4, "<i2", (2, 3))
    assert view.tolist() == [[0x0504, 0x0706, 0x0908], [0x0B0A, 0x0D0C, 0x0F0E]]
    view[1, 0] = -1
    assert memory.regions[Region.ACTIVATIONS][10:12].tolist() == [255, 255]


def test_a_view_ends_with_its_region(memory):
    assert memory.view(Region.ACTIVATIONS, 16, np.int32, (4,)).size == 4
    with pytest.raises(DeviceError, match="a descriptor reaches byte 36 of ACTIVATIONS, which has 32"):
        memory.view(Region.ACTIVATIONS, 20, np.int32, (4,))


def test_what_is_not_used_of_the_last_pixel_may_lie_behind_the_region(memory):
    """Two pixels of 3 channels, 8 elements apart, of which the last one ends with the region."""
    view = memory.view(Region.ACTIVATIONS, 10, np.int16, (2, 8), unused=5)
    assert view[1, 2] == 0x1F1E
    with pytest.raises(DeviceError):
        memory.view(Region.ACTIVATIONS, 12, np.int16, (2, 8), unused=5)
