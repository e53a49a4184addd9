"""Norms against float64."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.contract import operators
from ditto_zynq.quant.operators.norm import gain_fraction_bits
from hypothesis import given, settings
from hypothesis import strategies as st


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
