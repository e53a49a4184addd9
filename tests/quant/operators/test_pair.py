"""Sums and products: what folds into the operator before them, and what becomes one."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.hls.contract.operators import Add, Multiply
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.trace.tracing import trace
from torch import nn


class Model(nn.Module):
    """A layer, an activation, and what ``then`` makes of a result and the timestep [B, 1, 1, 1]."""

    class config:
        num_class_embeds = None

    def __init__(self, then):
        super().__init__()
        self.first, self.act, self.last, self.then = nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Conv2d(4, 3, 1), then

    def forward(self, sample, timestep):
        return self.last(self.then(self, self.first(sample), timestep.float()[:, None, None, None]))


def kinds(then) -> list[type]:
    graph = trace(Model(then).eval(), (3, 4, 4), [1], [0]).graph
    return [type(node) for node in graph.nodes if isinstance(node, (Add, Multiply))]


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (lambda model, x, t: 0.5 * x, []),  # folds into the layer
        (lambda model, x, t: model.act(x) / 2, [Add]),
        (lambda model, x, t: x + 1.5, [Add]),
        (lambda model, x, t: model.act(x) * x, [Multiply]),
        (lambda model, x, t: (model.act(x) * model.act(x)) * 3, [Multiply]),
        (lambda model, x, t: model.act(x * t), []),
    ],
)
def test_what_becomes_an_operator(then, expected):
    assert kinds(then) == expected


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (lambda model, x, t: model.act(x) + t, "conditioning folds into convolutions and norms, not into act"),
        (lambda model, x, t: x - t, "conditioning that is added -1 times"),
        (lambda model, x, t: x * t + t, "conditioning that is added to a gated layer's result"),
        (lambda model, x, t: t / x, "a division is supported by constants and conditioning only"),
        (lambda model, x, t: x + x.transpose(2, 3), "found operands with axes"),
    ],
)
def test_what_has_no_form(then, message):
    with pytest.raises(UnsupportedOperator, match=message):
        kinds(then)


def test_a_constant_is_the_same_in_all_runs():
    torch.manual_seed(0)
    model = Model(lambda model, x, t: x + torch.linspace(0, 1, 16).reshape(1, 1, 4, 4)).eval()
    traced = trace(model, (3, 4, 4), [1], [0])
    (name,) = traced.graph.constants
    assert torch.equal(traced.parameters[f"{name}.value"][..., 0].flatten(), torch.linspace(0, 1, 16))
