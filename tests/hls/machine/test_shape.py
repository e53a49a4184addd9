"""The numbers that follow from an accelerator's parts."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.machine.shape import Shape


def test_parts_by_hand():
    shape = Shape(cores=3, lanes=4, oc_tile=16, bus_bits=64)
    assert (shape.bus_bytes, shape.vector_width, shape.weight_copies) == (8, 4, 2)
    assert (shape.multipliers, shape.multiplier_dsps) == (192, 96)
    assert shape.dram_bytes_per_kilocycle == 76_800, "19.2 GB/s at 250 MHz"
    assert Shape(dram_gb_per_s=1.0).dram_bytes_per_kilocycle == 4_000


def test_a_variant_for_cost_models_is_not_checked():
    shape = Shape()
    larger = shape.modelled(cores=1000, lanes=64)
    assert larger.multipliers == 1000 * 64 * shape.oc_tile and shape.cores == 8
    with pytest.raises(ValueError, match="found lanes = 64, expected at most the bus's 16 bytes"):
        Shape(cores=1000, lanes=64)


def test_weights_are_in_ultraram_as_far_as_there_is_some():
    assert Shape(board="zcu102").uram_copies == 0 and Shape(weight_memory="bram").uram_copies == 0
    assert 0 < Shape().uram_copies < Shape().weight_copies == Shape(weight_memory="uram").uram_copies
