"""Stated error bounds of the vector unit's functions against float64, over their whole domains."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract import operators
from ditto_zynq.hls.contract import tables as lut
from ditto_zynq.hls.contract.arithmetic import VALUE_RANGE, requantize, to_multiplier
from ditto_zynq.quant.operators.norm import gain_fraction_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf


def test_tables_are_what_their_formulas_say():
    assert len(lut.SILU_DEFICIT) == 513 and len(lut.EXP2_NEGATIVE) == 257 and len(lut.RECIPROCAL_SQUARE_ROOT) == 769
    assert lut.SILU_DEFICIT.max() < 2**15 and lut.GELU_DEFICIT.max() < 2**15 and len(lut.GELU_DEFICIT) == 513
    assert (lut.EXP2_NEGATIVE[0], lut.EXP2_NEGATIVE[-1]) == (2**20, 2**19)
    assert (lut.RECIPROCAL_SQUARE_ROOT[0], lut.RECIPROCAL_SQUARE_ROOT[-1]) == (2**23, 2**22)


@pytest.mark.parametrize("bits", range(1, 12))
def test_silu_is_within_one_lsb_for_every_int16(bits):
    x = np.arange(-(2**15), 2**15)
    exact = x / (1 + np.exp(np.minimum(-x / 2.0**bits, 700)))
    assert np.abs(operators.activation.silu(x, bits) - exact).max() <= 1.0


@pytest.mark.parametrize("bits", range(1, 12))
def test_gelu_is_within_one_lsb_for_every_int16(bits):
    x = np.arange(-(2**15), 2**15)
    exact = x * (1 + erf(x / 2.0**bits / np.sqrt(2))) / 2
    assert np.abs(operators.activation.gelu(x, bits) - exact).max() <= 1.0


@pytest.mark.parametrize("bits", range(1, 12))
def test_mish_is_within_one_lsb_for_every_int16(bits):
    x = np.arange(-(2**15), 2**15)
    exact = x * np.tanh(np.logaddexp(0, x / 2.0**bits))
    assert np.abs(operators.activation.mish(x, bits) - exact).max() <= 1.0


def test_layer_norm_is_within_one_lsb():
    """Of every pixel alone, against float64."""
    random = np.random.default_rng(0)
    x = np.rint(random.normal(0, 3000, (2, 3, 4, 24))).clip(-32768, 32767).astype(np.int64)
    epsilon = 24**2
    gain, offset = random.uniform(-900, 900, (2, 24)), random.normal(0, 2000, (2, 24))
    normal = (x - x.mean(axis=3, keepdims=True)) / np.sqrt(x.var(axis=3, keepdims=True) + epsilon / 24**2)
    expected = normal * gain[:, None, None] + offset[:, None, None]
    bits = 10
    found = operators.norm.layer_norm(
        x, np.rint(gain * 2**bits).astype(np.int64), np.rint(offset * 2**20).astype(np.int64), bits, epsilon
    )
    assert np.abs(found - expected).max() < 1.0


@settings(max_examples=300)
@given(st.integers(1, 2**63 - 1))
def test_reciprocal_square_root_is_within_2e_6(v):
    root, exponent = operators.norm.reciprocal_square_root(np.array([v]))
    assert 2**22 <= root[0] <= 2**23
    assert abs(root[0] * 2.0**-23 * 2.0 ** -exponent[0] * float(v) ** 0.5 - 1) < 2e-6


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0, 1, 3, 300, 8000]),
    shape=st.sampled_from([(1, 1, 8), (7, 7, 32), (28, 28, 16), (5, 3, 12)]),
    groups=st.sampled_from([1, 2, 4]),
    steepness=st.floats(2**-12, 2**9),
    epsilon=st.floats(1e-8, 1e6),
    outlier=st.booleans(),
)
def test_group_norm_is_within_one_lsb(seed, spread, shape, groups, steepness, epsilon, outlier):
    """Gains from the flattest to those whose slope reaches 2**11, with the gain's encoding of the lowering."""
    random = np.random.default_rng(seed)
    height, width, channels = shape
    x = np.clip(random.normal(random.integers(-30000, 30000), spread, (2, *shape)), -32768, 32767).astype(np.int64)
    if outlier:
        x[:, 0, 0, 0] = 32767
    count = height * width * channels // groups
    encoded_epsilon = max(1, round(epsilon * count**2))
    members = x.reshape(2, height * width, groups, channels // groups).astype(np.float64)
    mean, variance = members.mean(axis=(1, 3), keepdims=True), members.var(axis=(1, 3), keepdims=True)
    deviation = np.sqrt(variance + encoded_epsilon / count**2)

    gain = random.uniform(-1, 1, channels) * min(steepness * deviation.min() * 4, 2**15)
    offset = random.normal(0, 2000, channels)
    gain_bits = int(gain_fraction_bits(np.abs(gain).max()))
    found = operators.norm.group_norm(
        x,
        groups,
        np.rint(gain * 2.0**gain_bits).astype(np.int32),
        np.rint(offset * 2.0**operators.norm.SLOPE_BITS).astype(np.int64),
        gain_bits,
        encoded_epsilon,
    )
    exact = np.clip(((members - mean) / deviation).reshape(x.shape) * gain + offset, -32768, 32767)
    assert np.abs(found - exact).max() <= 1.0


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
