"""hls4ml's fixed-point types."""

from __future__ import annotations

import numpy as np
from ditto_zynq.host.hls4ml.types import FixedPoint


def test_fixed_point_codes():
    """As ap_fixed converts: to the nearest step or down, saturating or wrapping."""
    values = np.array([0.5, 0.125, -0.125, -0.13, 0.375, 3.99, 4.0, -4.1, 100.0])
    assert FixedPoint(8, 2, True).codes(values).tolist() == [2, 1, 0, -1, 2, 16, 16, -16, 127]
    assert FixedPoint(8, 2, True, "RND_CONV").codes(values).tolist() == [2, 0, 0, -1, 2, 16, 16, -16, 127]
    assert FixedPoint(8, 2, True, "TRN", "WRAP").codes(values).tolist() == [2, 0, -1, -1, 1, 15, 16, -17, -112]
    assert FixedPoint(8, 2, False).codes(np.array([-1.0, 80.0])).tolist() == [0, 255]
    assert FixedPoint(8, 2, True, "RND", "SAT_SYM").codes(np.array([-80.0, 80.0])).tolist() == [-127, 127]
    far = np.array([1e30, -1e30, np.inf, -np.inf])
    assert FixedPoint(8, 2, True).codes(far).tolist() == [127, -128, 127, -128]
    assert FixedPoint(8, 2, False).codes(far).tolist() == [255, 0, 255, 0]
    assert FixedPoint(8, 0, True, "TRN", "WRAP").codes(np.array([2.0**70 + 2.0**20, 2.0**53 + 2])).tolist() == [0, 2]
    below = np.nextafter(0.5, 0)
    near = np.array([below, 0.5, -0.5, np.nextafter(-0.5, -1), -below, 2.0**46 + 0.5, 1.5, -1.5])
    assert FixedPoint(48, 0, True).codes(near).tolist() == [0, 1, 0, -1, 0, 2**46 + 1, 2, -1]
    assert str(FixedPoint(8, 5, True)) == "fixed<8,3,RND,SAT>"
