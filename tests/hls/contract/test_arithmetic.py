from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract import arithmetic as ar
from hypothesis import given
from hypothesis import strategies as st

INT32 = st.integers(-(2**31), 2**31 - 1)


@given(x=INT32, multiplier=st.integers(-(2**31) + 1, 2**31 - 1), shift=st.integers(1, 62))
def test_requantize_is_the_contract_in_unbounded_integers(x, multiplier, shift):
    expected = (x * multiplier + (1 << (shift - 1))) >> shift
    expected = max(-128, min(127, expected))
    assert ar.requantize(np.array(x), np.array(multiplier), shift, ar.CODE_RANGE) == expected


@given(st.integers(-(2**60), 2**60), st.integers(0, 62))
def test_round_shift_rounds_half_up(x, shift):
    expected = x if shift == 0 else (x + (1 << (shift - 1))) >> shift
    assert ar.round_shift(np.array(x), shift) == expected


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5).filter(lambda f: max(map(abs, f)) > 1e-9))
def test_multipliers_are_close_and_fit(factors):
    mantissa, shift = ar.to_multiplier(np.array(factors))
    assert 1 <= shift <= 62 and mantissa.dtype == np.int32
    error = np.abs(mantissa.astype(np.float64) * 2.0**-shift - factors)
    assert np.all(error <= 2.0 ** -(shift + 1) * 1.0000001)
    if shift < ar.MAX_SHIFT:
        assert np.abs(mantissa.astype(np.int64)).max() >= 2**29, "the largest mantissa wastes bits"


def test_multiplier_that_rounds_up_to_31_bits():
    mantissa, shift = ar.to_multiplier(np.array([1 - 2.0**-40]))
    assert (mantissa[0], shift) == (2**30, 30)


@pytest.mark.parametrize("factor", [np.inf, np.nan, 2.0**30])
def test_unusable_multipliers_are_refused(factor):
    with pytest.raises(ValueError, match=r"below 2\*\*30"):
        ar.to_multiplier(np.array([factor]))


def test_digits_of_every_difference():
    d = np.arange(-256, 256)
    high, low = ar.split_digits(d)
    assert np.array_equal(16 * high + low, d)
    assert high.min() >= -16 and high.max() <= 15 and low.min() >= -16 and low.max() <= 15
    narrow = (d >= -16) & (d <= 15)
    assert np.all(high[narrow] == 0)
    assert np.array_equal(ar.count_digits(d), np.where(d == 0, 0, np.where(narrow | (d % 16 == 0), 1, 2)))


def test_differences_beyond_nine_bits_are_refused():
    with pytest.raises(ValueError, match=r"found a difference of 256, expected one in \[-256, 255\]"):
        ar.split_digits(np.array([0, 256]))


def test_ditto_classes_of_every_int8_difference():
    d = np.arange(-255, 256)
    classes = ar.classify(d)
    assert (classes == 0).sum() == 1
    assert set(d[classes == 1]) == {*range(-8, 0), *range(1, 8)}
    assert (classes == 2).sum() == 511 - 16
