"""Two numbers of 4 bits in a byte."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.nibbles import RANGE, join_nibbles, split_nibbles


def test_the_first_of_a_pair_is_in_the_low_half():
    assert join_nibbles(np.array([1, -1, -8, 7, 3], np.int8)).tolist() == [0xF1, 0x78, 0x03]


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 5), (3, 1, 16)])
def test_all_numbers_come_back(shape):
    numbers = np.random.default_rng(0).integers(RANGE[0], RANGE[1] + 1, shape).astype(np.int8)
    joined = join_nibbles(numbers)
    assert joined.dtype == np.uint8 and joined.shape == (*shape[:-1], -(-shape[-1] // 2))
    found = split_nibbles(joined, shape[-1])
    assert found.dtype == np.int8 and np.array_equal(found, numbers)
