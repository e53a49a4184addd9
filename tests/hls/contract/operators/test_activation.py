"""Activations of every int16 against float64."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract import operators
from scipy.special import erf


@pytest.mark.parametrize("bits", range(1, 12))
def test_silu_is_within_one_lsb_for_every_int16(bits):
    x = np.arange(-(2**15), 2**15)
    exact = x / (1 + np.exp(np.minimum(-x / 2.0**bits, 700)))
    assert np.abs(operators.activation.SiLU.function(x, bits) - exact).max() <= 1.0


@pytest.mark.parametrize("bits", range(1, 12))
def test_gelu_is_within_one_lsb_for_every_int16(bits):
    x = np.arange(-(2**15), 2**15)
    exact = x * (1 + erf(x / 2.0**bits / np.sqrt(2))) / 2
    assert np.abs(operators.activation.GELU.function(x, bits) - exact).max() <= 1.0


@pytest.mark.parametrize("bits", range(1, 12))
def test_mish_is_within_one_lsb_for_every_int16(bits):
    x = np.arange(-(2**15), 2**15)
    exact = x * np.tanh(np.logaddexp(0, x / 2.0**bits))
    assert np.abs(operators.activation.Mish.function(x, bits) - exact).max() <= 1.0


def test_numbers_are_of_one_activation_each():
    """They stand in descriptors, where 0 is none."""
    numbers = [kind.number for kind in operators.activation.OPERATORS]
    assert len(set(numbers)) == len(numbers) and min(numbers) == 1 and max(numbers) < 256
