"""Compiled loops give the contract's integers; every one of them is in test_vector.py, with the NumPy reference beside it."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.arithmetic import CODE_RANGE, quantize_in_two_parts, requantize

loops = pytest.importorskip("ditto_zynq.host.compute.vector_loops")


@pytest.mark.parametrize("fine", [False, True])
def test_rescaling_every_int16(fine):
    x = np.arange(-32768, 32768).astype(np.int16).reshape(1, -1, 4)
    out = np.zeros((1, x.shape[1], 9), np.int8)
    loops.rescale(x, 4, 12345, 21, *CODE_RANGE, fine, out)
    expected = quantize_in_two_parts(x, 12345, 21) if fine else requantize(x, 12345, 21, CODE_RANGE)
    assert np.array_equal(out[:, :, : expected.shape[2]], expected) and not out[:, :, expected.shape[2] :].any()
