"""Labels, prompts and contexts that a model does not have: one line before any calibration."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.quant.common.options import Options
from ditto_zynq.quant.pipeline.pipelines import load_source
from ditto_zynq.quant.quantize import quantize_denoiser

from tests.conftest import SCHEDULER_CONFIG
from tests.quant.refusals import OPTIONS, SCHEDULE, refuse


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": Options(2, guidance=4.0)}, "names no label for 'no class' to guide away from"),
        ({"labels": [0]}, "the model has no class labels"),
        ({"prompts": ["a cat"]}, "takes no prompts"),
    ],
)
def test_conditions_that_the_model_does_not_have(options, message, pixels, tmp_path):
    refuse(pixels, tmp_path, lambda folder: None, message, **options)


def test_a_class_of_a_unet_is_not_taken_for_no_class(tiny_unet):
    with pytest.raises(ValueError, match="names no label for 'no class' to guide away from; leave --guidance out"):
        quantize_denoiser(tiny_unet, SCHEDULER_CONFIG, SCHEDULE, Options(2, guidance=2.0))


@pytest.mark.parametrize("labels", [[True, False], [0.5], ["1"], [3], [-1], []])
def test_labels_that_are_none(tiny_unet, labels):
    with pytest.raises(ValueError, match=r"found labels \[.*\], expected some of 0 to 2"):
        quantize_denoiser(tiny_unet, SCHEDULER_CONFIG, SCHEDULE, OPTIONS, labels)


CHANNELS = 32  # of a context of the small text-to-image pipeline
ONES = torch.ones(2, 5, CHANNELS)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (None, r"found no context, expected two tensors of one shape \[trajectories, tokens, 32\]"),
        ((ONES,), "found 1 contexts"),
        ((ONES, ONES[:1]), r"found contexts of shapes \(2, 5, 32\) and \(1, 5, 32\)"),
        ((ONES[:, :0], ONES[:, :0]), r"found contexts of shapes \(2, 0, 32\)"),
        ((ONES[..., :8], ONES[..., :8]), r"found contexts of shapes \(2, 5, 8\)"),
        ((ONES[0], ONES[0]), r"found contexts of shapes \(5, 32\)"),
        ((ONES, ONES / 0), "found NaN or infinity in the context"),
    ],
)
def test_contexts_in_memory(context, message, text):
    source = load_source(text)
    with pytest.raises(ValueError, match=message):
        quantize_denoiser(source.denoiser, source.scheduler, SCHEDULE, OPTIONS, context=context)


def test_a_context_of_a_model_that_takes_none(tiny_unet):
    with pytest.raises(ValueError, match="found a context, and a UNet2DModel takes none; leave it out"):
        quantize_denoiser(tiny_unet, SCHEDULER_CONFIG, SCHEDULE, OPTIONS, context=(ONES, ONES))
