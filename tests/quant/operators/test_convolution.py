"""Layers with weights: conditioning in their tables, and rows that give way to their biases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.contract.operators import Convolution
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.operators import CONDITIONED
from ditto_zynq.quant.operators.convolution import LARGEST_BIAS, with_room_for_biases

NODE, OPERATOR = Convolution("n", "n", ("x",)), CONDITIONED[Convolution]


@pytest.mark.parametrize(
    ("operations", "conditional", "gated"),
    [(["add"], True, False), (["multiply"], False, True), (["add", "add", "divide", "multiply"], True, True)],
)
def test_conditioning_is_marked(operations, conditional, gated):
    node = OPERATOR.conditioned(NODE, operations)
    assert (node.conditional, node.gated) == (conditional, gated)
    assert OPERATOR.row_bytes(node) == 4 * (conditional + gated)


def test_a_sum_after_a_gate_has_no_form():
    with pytest.raises(UnsupportedOperator, match="n: conditioning that is added to a gated layer's result"):
        OPERATOR.conditioned(NODE, ["multiply", "add"])


def test_sums_are_biases_and_products_are_gates():
    bias, (first, second, gate) = torch.randn(3), torch.randn(3, 2, 4, 3)
    terms = [("add", first), ("add", second), ("multiply", gate), ("multiply", gate)]
    tables = OPERATOR.folded(NODE, {"n.bias": bias}, terms, (2, 4, 3))
    assert torch.allclose(tables["n.bias"], bias + first + second) and torch.allclose(tables["n.gate"], gate**2)


def test_rows_give_way_to_their_biases_alone():
    weight = np.array([[100, -3], [100, 64], [0, 0]], np.int8)
    biases = np.array([[5.0, -(2.0**35), 2.0**40], [2.0**30, 2.0**30, 0.0]])
    found, growth = with_room_for_biases(weight, biases)
    assert growth.tolist() == [1, 32, 1024] and found.tolist() == [[100, -3], [3, 2], [0, 0]]
    assert found.dtype == weight.dtype and (np.abs(biases / growth) <= LARGEST_BIAS).all()
