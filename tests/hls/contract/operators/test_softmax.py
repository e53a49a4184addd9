"""Softmax and the means that it weights, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract import operators
from ditto_zynq.hls.contract import tables as lut
from ditto_zynq.hls.contract.arithmetic import VALUE_RANGE, requantize, to_multiplier
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    keys=st.sampled_from([1, 2, 49, 196, 1024]),
    logit_step=st.floats(1e-5, 5e-3),
)
def test_softmax_is_within_one_lsb_of_its_codes(seed, keys, logit_step):
    random = np.random.default_rng(seed)
    x = np.clip(random.normal(0, 8000, (2, 3, 5, keys)), -32768, 32767).astype(np.int64)
    factor = logit_step * np.log2(np.e) * 2**lut.EXP_FRACTION_BITS
    shift = 30 - int(np.ceil(np.log2(factor)))
    found = operators.softmax.softmax(x, int(np.rint(factor * 2.0**shift)), shift)
    exact = 127 * np.exp((x - x.max(axis=-1, keepdims=True)) * logit_step)
    assert found.min() >= 0 and np.all(found.max(axis=-1) == 127)
    assert np.abs(found - exact).max() <= 1.0


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), keys=st.sampled_from([1, 2, 49, 1024, 4096]), factor=st.floats(2**-12, 2**7))
def test_means_of_values_are_within_one_lsb(seed, keys, factor):
    """The mean of V weighted with a softmax's codes, requantized to values: what rounding the sum's reciprocal costs too."""
    random = np.random.default_rng(seed)
    p = np.maximum(random.integers(-300, 128, (1, 1, 8, keys)), 0)
    p[..., 0] = 127
    v = random.integers(-128, 128, (1, keys, 1, 4))
    mixed = operators.attention.attention_mix(p, v, 1)
    mantissa, shift = to_multiplier(
        np.array(factor / 2 ** (operators.softmax.ROW_RECIPROCAL_BITS - operators.softmax.ROW_BITS))
    )
    found = requantize(mixed, operators.softmax.row_multipliers(p[:, 0], int(mantissa)), shift, VALUE_RANGE)
    exact = mixed / p[:, 0].sum(axis=-1, keepdims=True) * factor
    assert np.abs(found - exact).max() <= 1.0


@pytest.mark.parametrize("share", [0.04, 0.1, 0.3, 0.49, 1.6])
def test_many_small_shares_keep_their_sum(share):
    """Of shares below half a code, which rounding to the nearest would make 0, as many keys get 1 as their sum asks for."""
    x = np.full((1, 1, 1, 4096), -1)
    x[..., 7] = 0
    factor = np.log2(127 / share) * 2**lut.EXP_FRACTION_BITS  # of one logit step
    found = operators.softmax.softmax(x, int(np.rint(factor * 2**10)), 10)
    assert found[..., 7] == 127
    assert abs((found.sum() - 127) / 4095 - share) <= 1 / 16
    assert np.array_equal(found[..., 16:32], found[..., 4080:])
