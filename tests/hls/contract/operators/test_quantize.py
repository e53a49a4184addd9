"""Codes are values in steps, rounded half up and saturated; in two parts they are 16 times as fine."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators import Quantize, StepTables
from ditto_zynq.hls.contract.tensor import CODE, VALUE, Tensor

TABLES = StepTables(
    {"n.multiplier": np.array([1 << 20]), "n.shift": np.array([27])}, "n", 0, 0, np.zeros(1, np.int64)
)  # 128 values make a step


def test_codes_by_hand():
    values = np.array([[[[63, 64, -64, -65, 192, 16255, 16256, 32767, -32768]]]])
    found = Quantize("n", "m", ("x",)).run((values,), TABLES, Tensor("n", CODE, (1, 1, 9)))
    assert found.ravel().tolist() == [0, 1, 0, -1, 2, 127, 127, 127, -128]


def test_two_parts_are_within_a_32nd_of_a_step():
    values = np.arange(-16384, 16256)
    node = Quantize("n", "m", ("x",), fine=True)
    found = node.run((values[None, None, None],), TABLES, Tensor("n", CODE, (1, 1, 2 * len(values))))[0, 0, 0]
    codes, residues = found[: len(values)], found[len(values) :]
    assert np.abs(codes + residues / 16 - values / 128).max() <= 1 / 32
    assert np.abs(residues).max() <= 8, "half a step"


def test_a_quantizer_makes_codes_of_a_value_and_twice_as_many_in_two_parts():
    value, code = Tensor("x", VALUE, (2, 3, 5)), Tensor("x", CODE, (2, 3, 5))
    assert Quantize("n", "m", ("x",)).output_shape([value], 0) == (2, 3, 5)
    assert Quantize("n", "m", ("x",), fine=True).output_shape([value], 0) == (2, 3, 10)
    with pytest.raises(ValueError, match="expected a value -> a code"):
        Quantize("n", "m", ("x",)).check([code], Tensor("n", CODE, (2, 3, 5)))
