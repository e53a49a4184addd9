"""Norms: conditioning in their affines, and what integers need of their scales."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.hls.common.limits import LARGEST_EPSILON, LARGEST_GAIN
from ditto_zynq.hls.contract.graph import Graph
from ditto_zynq.hls.contract.operators import GroupNorm, LayerNorm
from ditto_zynq.hls.contract.tensor import VALUE, Tensor
from ditto_zynq.quant.builders.float_step import FloatStep
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.operators import CONDITIONED, operator_of


def graph_of(node, shape: tuple[int, int, int]) -> Graph:
    tensors = {name: Tensor(name, VALUE, shape) for name in ("x", node.name)}
    return Graph(tensors, (node,), "x", node.name, (0,))


def test_terms_are_applied_in_their_order():
    node, operator = GroupNorm("n", "n", ("x",), groups=2), CONDITIONED[GroupNorm]
    parameters = {"n.gain": torch.randn(4), "n.offset": torch.randn(4), "n.epsilon": torch.tensor(1e-5)}
    shift, scale = torch.randn(2, 1, 3, 4)
    marked = operator.conditioned(node, ["add", "multiply", "add"])
    folded = operator.folded(node, parameters, [("add", shift), ("multiply", scale), ("add", shift)], (1, 3, 4))
    x, labels, output = torch.randn(3, 4, 5, 6), torch.tensor([0, 1, 2]), Tensor("n", VALUE, (5, 6, 4))
    plain = operator.run(node, [x], FloatStep(parameters, None, "n", 0, labels), output)
    found = operator.run(marked, [x], FloatStep(parameters | folded, None, "n", 0, labels), output)
    by_sample = (term[0][:, :, None, None] for term in (shift, scale))
    added, factor = by_sample
    assert torch.allclose(found, (plain + added) * factor + added, atol=1e-5)


@pytest.mark.parametrize("node", [GroupNorm("n", "n", ("x",), groups=2), LayerNorm("n", "n", ("x",))])
def test_the_least_scales_hold_epsilon_and_gain(node):
    parameters = {"n.gain": torch.tensor([3.0, -5.0]), "n.epsilon": torch.tensor(1e-3, dtype=torch.float64)}
    graph = graph_of(node, (3, 4, 2))
    least = dict(operator_of(node).least_scales(node, graph, parameters))
    assert 1e-3 * (node.count((3, 4, 2)) / least["x"]) ** 2 == pytest.approx(LARGEST_EPSILON, rel=1e-6)
    assert 5.0 / least["n"] == pytest.approx(LARGEST_GAIN, rel=1e-6)


def test_too_large_groups_are_refused_by_the_graph_alone():
    node = GroupNorm("n", "n", ("x",), groups=1)
    with pytest.raises(UnsupportedOperator, match="n: found 262144 elements in a norm group"):
        operator_of(node).check(node, graph_of(node, (256, 256, 4)), set())
