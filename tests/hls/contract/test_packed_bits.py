"""Several numbers in a byte come back."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.formats import signed_range
from ditto_zynq.hls.contract.packed_bits import bytes_of, join_numbers, split_numbers


def test_the_first_one_is_in_the_lowest_bits():
    assert join_numbers(np.array([1, -1, -8, 7, 3], np.int8), 4).tolist() == [0xF1, 0x78, 0x03]
    assert join_numbers(np.array([1, -1, -2, 0, 1], np.int8), 2).tolist() == [0b00101101, 1]
    assert join_numbers(np.array([1, -1, -128], np.int8), 8).tolist() == [1, 255, 128]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(0,), (1,), (2, 5), (3, 1, 16)])
def test_all_numbers_come_back(shape, bits):
    low, high = signed_range(bits)
    numbers = np.random.default_rng(0).integers(low, high + 1, shape).astype(np.int8)
    joined = join_numbers(numbers, bits)
    assert joined.dtype == np.uint8 and joined.shape == (*shape[:-1], bytes_of(shape[-1], bits))
    found = split_numbers(joined, shape[-1], bits)
    assert found.dtype == np.int8 and np.array_equal(found, numbers)
