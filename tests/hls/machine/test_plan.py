"""Plans fit the buffers that they are made for, whatever the layer; packed weights come back."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.hls.machine.plan import CannotPlan, ProductShape, ceil_divide, plan_product
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hls.configs import CONFIGS

SIZES = st.integers(1, 40)


def shapes():
    def build(samples, size, channels, outputs, kernel, stride, flags):
        height, width = size[0] + kernel[0], size[1] + kernel[1]
        rows, columns = (height - kernel[0]) // stride + 1, (width - kernel[1]) // stride + 1
        return ProductShape(samples, height, width, channels, rows, columns, outputs, kernel, stride, *flags)

    kernels = st.tuples(st.integers(1, 3), st.integers(1, 3))
    return st.builds(
        build,
        st.integers(1, 9),
        st.tuples(SIZES, SIZES),
        st.integers(1, 700),
        st.integers(1, 300),
        kernels,
        st.integers(1, 2),
        st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2)),
    )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@settings(max_examples=60)
@given(shape=shapes())
def test_plans_fit_the_buffers(config: HardwareConfig, shape: ProductShape):
    try:
        plan = plan_product(config, shape, "conv")
    except CannotPlan as error:
        needs_row = shape.positions(1)
        assert "conv: one output row needs" in str(error)
        assert (
            needs_row > min(config.positions, config.digit_depth)
            or shape.output_width > config.accumulator_depth
            or shape.taps > config.weight_depth
        )
        return
    positions = shape.positions(plan.block_rows)
    words, all_words = ceil_divide(plan.chunk_channels, config.lanes), ceil_divide(shape.channels, config.lanes)
    assert plan.chunk_channels % config.lanes == 0 or plan.chunk_channels == shape.channels
    assert positions <= config.positions and positions * words <= config.digit_depth
    assert plan.pass_tiles * plan.block_rows * shape.output_width <= config.accumulator_depth
    assert plan.pass_tiles * shape.taps * (all_words if plan.resident else words) <= config.weight_depth
    beats = ceil_divide(plan.chunk_channels, config.bus_bytes)
    assert not shape.gathered or plan.block_rows * beats * config.bus_bytes <= config.gather_bytes
    assert not shape.staged or plan.chunk_channels <= config.staging_depth
    assert plan.segment_pixels in (1, shape.width)


def test_a_layer_that_never_fits_is_refused_with_the_numbers():
    shape = ProductShape(1, 64, 400, 8, 64, 400, 8, (3, 3))
    with pytest.raises(
        CannotPlan, match=r"up\.conv: one output row needs 1200 positions and 400 sums.* has 256 and 64"
    ):
        plan_product(HardwareConfig(), shape, "up.conv")
    large = ProductShape(1, 8, 8, 8, 8, 8, 8, (7, 7))
    with pytest.raises(CannotPlan, match=r"up\.conv: found a kernel of 7 x 7, expected at most 32 taps"):
        plan_product(HardwareConfig(), large, "up.conv")
