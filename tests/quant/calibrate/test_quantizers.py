"""Brevitas' own quantizers, with tables that follow the steps."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.graph.calibrate import calibration_mode
from ditto_zynq.quant.calibrate.quantizers import SEARCH, Calibration, activation_quantizer, scales, stepwise_scaling


def test_the_quantizer_is_brevitas_own_with_a_table_inside():
    state = Calibration(rows=3)
    quantizer = activation_quantizer(8, state, norm=0.0)
    assert isinstance(quantizer, qnn.QuantIdentity)
    quantizer.eval()
    with torch.no_grad(), calibration_mode(quantizer):
        for state.row in range(3):
            quantizer(torch.linspace(-1, 1, 101) * (state.row + 1))
    assert torch.allclose(stepwise_scaling(quantizer).threshold, torch.tensor([1.0, 2.0, 3.0]))
    assert torch.allclose(scales(quantizer), torch.tensor([1.0, 2.0, 3.0]).double() / 128)
    assert "act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.threshold" in quantizer.state_dict()
    for state.row in range(3):
        x = torch.linspace(-4, 4, 1001)
        step = (state.row + 1) / 128
        assert torch.allclose(quantizer(x), (x / step).round().clamp(-128, 127) * step)


def test_clipping_thresholds_minimise_the_error():
    state = Calibration(rows=1)
    quantizer = activation_quantizer(8, state, norm=2.0)
    quantizer.eval()
    x = (
        torch.randn(20000, generator=torch.Generator().manual_seed(0)) ** 3
    )  # heavy tails: the full range is a poor choice
    with torch.no_grad(), calibration_mode(quantizer):
        quantizer(x)
        state.phase = SEARCH
        quantizer(x)
    scaling = stepwise_scaling(quantizer)
    scaling.choose()
    chosen = float(scaling.threshold[0])

    def error(threshold: float) -> float:
        step = threshold / 128
        return float((((x / step).round().clamp(-128, 127) * step - x) ** 2).sum())

    largest = float(x.abs().max())
    assert chosen < 0.95 * largest
    assert error(chosen) <= min(error(largest * fraction) for fraction in np.linspace(0.3, 1, 24)) * 1.0001
