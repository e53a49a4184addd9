"""Numbers of each format are wide enough for what they hold, and as wide as NumPy's types of them."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract import formats
from ditto_zynq.hls.contract.formats import signed_range


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_ranges_are_those_of_twos_complement(dtype):
    limits = np.iinfo(dtype)
    assert signed_range(limits.bits) == (limits.min, limits.max)
    assert limits.bits // 8 in (formats.CODE_BYTES, formats.VALUE_BYTES, formats.SUM_BYTES)


def test_differences_and_digits_need_the_bits_they_have():
    low, high = signed_range(formats.CODE_BITS)
    least, most = signed_range(formats.DIFFERENCE_BITS)
    assert least <= low - high and high - low <= most, "of any two codes"
    assert not signed_range(formats.DIFFERENCE_BITS - 1)[0] <= low - high, "a bit fewer would not do"
    high_digits = [difference // formats.RADIX for difference in (low - high, high - low)]
    least, most = signed_range(formats.DIGIT_BITS)
    assert least <= min(high_digits) and max(*high_digits, formats.RADIX - 1) <= most
