"""An operator reads the rows of its step and of each sample's label."""

from __future__ import annotations

import torch
from ditto_zynq.hls.contract.operators import Convolution
from ditto_zynq.hls.contract.tensor import VALUE, Tensor
from ditto_zynq.quant.builders.float_step import FloatStep
from ditto_zynq.quant.operators import operator_of
from torch.nn import functional as F


def test_each_sample_has_the_row_of_its_label():
    table = torch.arange(24.0).reshape(2, 3, 4)  # steps, labels, channels
    step = FloatStep({"n.gain": table, "m.gain": -table}, None, "n", 1, torch.tensor([2, 0]))
    images = torch.ones(2, 4, 5, 6) * step.row("gain", conditional=True)
    assert images[0, :, 4, 5].tolist() == [20, 21, 22, 23]
    assert images[1, :, 0, 0].tolist() == [12, 13, 14, 15]


def test_without_conditioning_all_samples_have_one_row():
    parameters = {"n.gain": torch.tensor([1.0, 2.0, 3.0]), "n.epsilon": torch.tensor(0.25, dtype=torch.float64)}
    step = FloatStep(parameters, None, "n", 1, torch.tensor([2, 0]))
    images = torch.ones(2, 3, 5, 6) * step.row("gain", conditional=False)
    assert [images[:, channel].unique().tolist() for channel in range(3)] == [[1], [2], [3]]
    assert step.number("epsilon") == 0.25


class TwoLayers:
    """Layers ``a`` and ``b``, whose results are shifted by 1 and 10."""

    def __init__(self):
        self.weights, self.shifts = {"a": torch.randn(4, 3, 3, 3), "b": torch.randn(4, 3, 3, 3)}, {"a": 1, "b": 10}

    def weight(self, name: str) -> torch.Tensor:
        return self.weights[name]

    def corrected(self, name: str, y: torch.Tensor) -> torch.Tensor:
        return y + self.shifts[name]


def test_a_layer_is_the_nodes_own():
    torch.manual_seed(0)
    layers, x, bias = TwoLayers(), torch.randn(2, 3, 5, 6), torch.randn(4)
    node = Convolution("b", "b", ("x",), (3, 3))
    step = FloatStep({"b.bias": bias}, layers, "b", 0, torch.zeros(2, dtype=torch.long))
    found = operator_of(node).run(node, [x], step, Tensor("b", VALUE, (3, 4, 4)))
    assert torch.allclose(found, F.conv2d(x, layers.weights["b"], bias) + 10, atol=1e-5)
