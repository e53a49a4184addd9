"""Whether codes hold what a model computes is measured, and said in numbers where they do not."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from ditto_zynq.hls.common.notices import LOWEST_COSINE, PrecisionWarning
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.quantize import quantize_denoiser

from tests.conftest import SCHEDULER_CONFIG
from tests.pipelines import unet2d

SCHEDULE, LARGE, TOO_LARGE = Schedule("ddim", 2, 0.0, 1), 150.0, 1000.0


def unet_with_an_outlier(factor: float) -> torch.nn.Module:
    """One channel in front of the last convolution is far larger than the others, and its weights are as much smaller."""
    torch.manual_seed(0)
    unet = unet2d().eval()
    unet.conv_norm_out.weight.data[1] *= factor
    unet.conv_norm_out.bias.data[1] -= factor / 10
    unet.conv_out.weight.data[:, 1] /= factor
    return unet


@torch.no_grad()
def cosine_of(model, unet) -> float:
    """Of the integers' output with the float one, in the first step."""
    sample = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    codes = model.graph.encode(sample.double().numpy(), model.scales[model.graph.input][0])
    values = Interpreter(model.graph, model.tables).step(codes, 0, np.zeros(2, int))[model.graph.output]
    found = torch.from_numpy(model.graph.decode(values, model.scales[model.graph.output][0])).float()
    return float(torch.cosine_similarity(found.flatten(1), unet(sample, model.timesteps[0]).sample.flatten(1)).min())


@pytest.mark.parametrize(
    ("factor", "fine", "advice"),
    [
        (LARGE, 0, "quantize with a larger --fine or more --groups"),
        (TOO_LARGE, 4, "--fine cannot help it: scale its large channels down where they are made"),
    ],
)
def test_coarse_codes_are_said_with_their_tensor(factor, fine, advice):
    unet = unet_with_an_outlier(factor)
    with pytest.warns(PrecisionWarning, match="the quantized output has a cosine of") as caught:
        model = quantize_denoiser(unet, SCHEDULER_CONFIG, SCHEDULE, Options(2, 0.0, fine=fine))
    (text,) = [str(each.message) for each in caught if each.category is PrecisionWarning]
    said = re.match(
        r"step \d: the quantized output has a cosine of (\S+) with the float one \(.* dB\), expected at least 0\.98; "
        rf"the coarsest codes are those of conv_act\.code \(.* by itself\).*; {advice}",
        text,
    )
    assert said is not None, text
    assert float(said[1]) < LOWEST_COSINE and cosine_of(model, unet) < LOWEST_COSINE


@pytest.mark.parametrize(
    "change", [lambda unet: None, lambda unet: [each.data.zero_() for each in unet.conv_out.parameters()]]
)
def test_fine_codes_are_good_and_zeros_too(change):
    torch.manual_seed(0)
    unet = unet2d().eval()
    change(unet)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        quantize_denoiser(unet, SCHEDULER_CONFIG, SCHEDULE, Options(2))


def test_the_advice_helps():
    """Fine codes hold what the coarse ones do not."""
    unet = unet_with_an_outlier(LARGE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        model = quantize_denoiser(unet, SCHEDULER_CONFIG, SCHEDULE, Options(2, 0.0, fine=4))
    assert cosine_of(model, unet) > LOWEST_COSINE
