"""Models, contexts and options that are given in Python: taken as what they are, or refused in one line before calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from ditto_zynq.quant import quantize as quantizing
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.pipeline.in_memory import contexts_in_float32, in_float32
from ditto_zynq.quant.quantize import quantize_denoiser
from torch import nn

from tests.conftest import SCHEDULER_CONFIG
from tests.pipelines import unet2d

SCHEDULE, OPTIONS = Schedule("ddim", 2, 0.0, 1), Options(2, fine=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_quantized_as_a_copy(kind):
    model = unet2d().to(kind).eval()
    found = quantize_denoiser(model, SCHEDULER_CONFIG, SCHEDULE, OPTIONS)
    expected = quantize_denoiser(unet2d_like(model), SCHEDULER_CONFIG, SCHEDULE, OPTIONS)
    assert all(np.array_equal(found.tables[name], table) for name, table in expected.tables.items())
    assert {parameter.dtype for parameter in model.parameters()} == {kind}


def unet2d_like(model: nn.Module) -> nn.Module:
    other = unet2d().eval()
    other.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    return other


def test_a_float32_model_is_not_copied():
    model = unet2d()
    assert in_float32(model) is model
    with pytest.raises(ValueError, match="found weights on the meta device, which are none; load the model"):
        in_float32(unet2d().to("meta"))


@pytest.mark.parametrize("kind", [np.float16, np.float64, torch.float16, torch.bfloat16])
def test_contexts_of_other_floats(kind):
    values = np.full((2, 5, 8), 0.5)
    given = values.astype(kind) if isinstance(kind, type) else torch.from_numpy(values).to(kind)
    found = contexts_in_float32((given, given))
    assert found is not None and all(each.dtype == torch.float32 and bool((each == 0.5).all()) for each in found)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (torch.ones(2, 5, 8), "found a context of Tensor, expected two tensors"),
        ((np.ones((2, 5, 8), int),) * 2, "found a context of int64, expected a tensor or an array of floats"),
        (("a cat", "a dog"), "found a context of str, expected a tensor or an array"),
    ],
)
def test_contexts_that_are_none(context, message):
    with pytest.raises(ValueError, match=message):
        contexts_in_float32(context)


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        (unet2d(), {"component": "foo"}, "found component 'foo', expected unet or transformer"),
        (nn.Linear(2, 2), {}, "found a Linear, expected a denoiser of diffusers"),
    ],
)
def test_what_is_no_denoiser(model, more, message, monkeypatch):
    monkeypatch.delattr(quantizing, "trace")
    with pytest.raises(ValueError, match=message):
        quantize_denoiser(model, SCHEDULER_CONFIG, SCHEDULE, OPTIONS, **more)


@pytest.mark.parametrize("size", [1000000, (65536, 1), (8192, 8192)])
def test_sizes_beyond_the_hardware(size, monkeypatch):
    monkeypatch.delattr(quantizing, "trace")
    model = UNet2DModel(**{**unet2d().config, "sample_size": size})
    with pytest.raises(
        ValueError, match=r"found sample_size .*, expected sides of at most 65535 .* smaller --sample-size"
    ):
        quantize_denoiser(model, SCHEDULER_CONFIG, SCHEDULE, OPTIONS)
