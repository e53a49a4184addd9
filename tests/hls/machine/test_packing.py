"""Packed weights come back, of 8 and of 4 bits."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators.convolution import WEIGHT_RANGES
from ditto_zynq.hls.machine.packing import pack_weights, packed_size, unpack_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hls.configs import CONFIGS


@settings(max_examples=60)
@given(
    outputs=st.integers(1, 70),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.integers(1, 60),
    chunk=st.integers(1, 9),
    seed=st.integers(0, 99),
    bits=st.sampled_from([4, 8]),
)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_packed_weights_come_back(config, outputs, kernel, channels, chunk, seed, bits):
    low, high = WEIGHT_RANGES[bits]
    weight = np.random.default_rng(seed).integers(low, high + 1, (outputs, *kernel, channels)).astype(np.int8)
    chunk_channels = min(chunk * config.lanes, channels)
    packed = pack_weights(config, weight, chunk_channels, bits)
    assert packed.size == packed_size(config, weight.shape, bits)
    assert np.array_equal(unpack_weights(config, packed, weight.shape, chunk_channels, bits), weight)
    if bits == 8:
        assert np.count_nonzero(packed) == np.count_nonzero(weight)


@pytest.mark.parametrize(("config", "share"), [("zcu104", 2), ("pynq-z2", 2), ("tiny", 1)])
def test_weights_of_four_bits_take_half_the_bytes_where_rows_have_beats_to_spare(config, share):
    shape = (70, 3, 3, 40)
    assert packed_size(CONFIGS[config], shape) == share * packed_size(CONFIGS[config], shape, 4)
