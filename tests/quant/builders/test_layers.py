"""A layer's integers, times their scales, are the weights of the quantized run, and its correction is what shifts that run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.quant.calibrate.network import FLOAT, QUANTIZED, QuantizedNetwork
from ditto_zynq.quant.common.options import Options
from torch import nn

from tests.quant.between import Between, traced


@pytest.fixture(scope="module")
def model() -> Between:
    return Between(nn.SiLU())


@pytest.fixture
def network(model) -> QuantizedNetwork:
    return QuantizedNetwork(traced(model), Options())


@pytest.mark.parametrize("name", ["first", "last"])
def test_integers_are_the_rounded_weights(model, network, name):
    exact = model.get_submodule(name).weight.detach().numpy()
    network.mode = FLOAT
    assert np.array_equal(network.weight(name).detach().numpy(), exact)
    network.mode = QUANTIZED
    rounded = network.weight(name).detach().numpy()
    integers, scale = network.integer_weight(name)
    assert integers.dtype == np.int8 and integers.shape == exact.shape and scale.shape == (len(exact),)
    step = scale.reshape(-1, 1, 1, 1)
    assert np.allclose(integers * step, rounded, rtol=1e-6) and not np.array_equal(rounded, exact)
    assert (np.abs(rounded - exact) <= 0.5001 * step).all()


def test_a_quantized_run_is_shifted_by_the_correction_of_its_group(network):
    network.correction["first"] = torch.arange(8.0).reshape(2, 4)
    network.calibration.row, y = 1, torch.zeros(3, 4, 6, 4)
    network.mode = FLOAT
    assert torch.equal(network.corrected("first", y), y)
    network.mode = QUANTIZED
    shift = network.corrected("first", y)
    assert [shift[:, channel].unique().tolist() for channel in range(4)] == [[4], [5], [6], [7]]
    assert network.correction_of("first").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
