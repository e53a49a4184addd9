"""A table passes at the ends of its rule and is refused one beyond them, by what was found and what was expected."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.table_rule import FLOAT64, INT8, INT16, TableRule, requantizer_rules, shift_rule

RULE = TableRule((INT8, INT16), (2, 3), -5, 200)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_what_is_legal_passes(dtype):
    RULE.check("n.t", np.full((2, 3), -5, dtype))
    RULE.check("n.t", np.full((2, 3), 127, dtype))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, r"found no n\.t, expected int8 or int16 \(2, 3\)"),
        (np.zeros((2, 3), np.int32), r"n\.t: found int32 \(2, 3\), expected int8 or int16 \(2, 3\)"),
        (np.zeros((3, 2), np.int8), r"n\.t: found int8 \(3, 2\)"),
        (np.array([[0, 0, 0], [0, -6, 0]], np.int8), r"n\.t: found -6, expected -5 to 200"),
        (np.array([[0, 0, 0], [0, 201, 0]], np.int16), r"n\.t: found 201, expected -5 to 200"),
    ],
    ids=["missing", "type", "shape", "too small", "too large"],
)
def test_what_is_not_legal_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        RULE.check("n.t", table)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_floats_are_finite(number):
    rule = TableRule((FLOAT64,), (2,), 0.5, 1e30)
    rule.check("s", np.array([0.5, 1e30]))
    with pytest.raises(ValueError, match=f"found {number}"):
        rule.check("s", np.array([1.0, number]))


def test_requantizers_shift_by_62_at_most_and_multiply_by_any_int32():
    rules = requantizer_rules(3, 2)
    rules["multiplier"].check("n.multiplier", np.array([[-(2**31), 2**31 - 1]] * 3, np.int32))
    shift_rule(3).check("n.shift", np.array([0, 1, 62], np.int32))
    for wrong in (-1, 63):
        with pytest.raises(ValueError, match=f"found {wrong}, expected 0 to 62"):
            rules["shift"].check("n.shift", np.array([0, wrong, 62], np.int32))
