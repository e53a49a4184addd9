"""Each activation: the contract's integers beside PyTorch's function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.contract.operators import SiLU
from ditto_zynq.hls.contract.tensor import VALUE, Tensor
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.operators import operator_of
from ditto_zynq.quant.operators.activation import ACTIVATIONS, NO_TABLES

EVERY = np.arange(-(2**15), 2**15)


@pytest.mark.parametrize("reach", [0.5, 15.9, 16.1, 9000.0])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.kind.__name__)
def test_integers_are_within_a_step_of_pytorchs_function(activation, reach):
    node = activation.kind("n", "m", ("x",))
    node, scale = activation.with_fixed_point(node, lambda name: reach) or (node, 0.3)
    assert activation.keeps_scale or scale * 2**15 >= reach or scale == 2.0**-11
    found = node.run((EVERY,), NO_TABLES, Tensor("n", VALUE, (1, 1, 1)))
    assert np.abs(found - activation.function(torch.from_numpy(EVERY * scale)).numpy() / scale).max() <= 1


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.kind.__name__)
def test_what_keeps_any_scale_is_homogeneous(activation):
    x = torch.linspace(-4, 4, 101)
    homogeneous = torch.allclose(activation.function(3 * x), 3 * activation.function(x))
    assert homogeneous == activation.keeps_scale


def test_outliers_are_named():
    node = SiLU("act", "act", ("x",))
    with pytest.raises(UnsupportedOperator, match="act: values of 40000 leave no fraction bits in 16"):
        operator_of(node).with_fixed_point(node, {"x": 40000.0, "act": 1.0}.__getitem__)
