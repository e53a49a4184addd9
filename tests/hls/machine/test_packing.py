"""Packed weights come back."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.machine.packing import pack_weights, packed_size, unpack_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hls.configs import CONFIGS

SIZES = st.integers(1, 40)


@settings(max_examples=60)
@given(
    outputs=st.integers(1, 70),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.integers(1, 60),
    chunk=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_packed_weights_come_back(config, outputs, kernel, channels, chunk, seed):
    weight = np.random.default_rng(seed).integers(-127, 128, (outputs, *kernel, channels)).astype(np.int8)
    chunk_channels = min(chunk * config.lanes, channels)
    packed = pack_weights(config, weight, chunk_channels)
    assert packed.size == packed_size(config, weight.shape)
    assert np.array_equal(unpack_weights(config, packed, weight.shape, chunk_channels), weight)
    assert np.count_nonzero(packed) == np.count_nonzero(weight)
