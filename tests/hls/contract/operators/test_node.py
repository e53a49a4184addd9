"""An operator reads the rows of its tables that step and labels name, and takes as many inputs as it has."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators import Add, StepTables, TableAxes
from ditto_zynq.hls.contract.tensor import CODE, VALUE, Tensor


def test_rows_of_a_step():
    tables = {
        "n.shift": np.array([7, 9]),  # of two step groups
        "n.bias": np.arange(4 * 3 * 2).reshape(4, 3, 2),  # [steps, labels, channels]
        "other.shift": np.array([0, 0]),
    }
    of_step = StepTables(tables, "n", step=2, group=1, labels=np.array([0, 2, 0]))
    assert of_step.scalar("shift") == of_step.row("shift") == 9
    assert of_step.row("bias", conditional=True).tolist() == [[12, 13], [16, 17], [12, 13]], (
        "6 numbers a step, 2 a label"
    )
    assert of_step.whole("shift").tolist() == [7, 9]


def test_shapes_of_tables_of_every_channel():
    axes = TableAxes(groups=3, steps=50, labels=11)
    assert axes.rows(False, 8) == (3, 8) and axes.rows(True, 8) == (50, 11, 8)


def test_an_operator_says_what_it_was_given_and_what_it_expected():
    node, value = Add("sum", "m", ("a", "b")), Tensor("a", VALUE, (2, 3, 4))
    node.check([value, value], Tensor("sum", VALUE, (2, 3, 4)))
    for inputs in ([value], [value] * 3):
        with pytest.raises(ValueError, match=f"sum: found {len(inputs)} inputs of a Add, expected 2"):
            node.check(inputs, Tensor("sum", VALUE, (2, 3, 4)))
    with pytest.raises(ValueError, match=r"sum: found output shape \(2, 3, 5\), expected \(2, 3, 4\)"):
        node.check([value, value], Tensor("sum", VALUE, (2, 3, 5)))
    with pytest.raises(ValueError, match="expected values"):
        node.check([value, value], Tensor("sum", CODE, (2, 3, 4)))
