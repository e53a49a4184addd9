"""Labels, prompts and contexts that a model does not have: one line before any calibration."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.quant.common.options import Options
from ditto_zynq.quant.pipeline.conditions import conditions_of, guidance_for
from ditto_zynq.quant.pipeline.pipelines import load_source
from ditto_zynq.quant.quantize import quantize_denoiser

from tests.conftest import SCHEDULER_CONFIG
from tests.pipelines import dit, stable_diffusion, unet2d
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


@pytest.mark.parametrize(("scale", "branches"), [(0.0, 1), (1.0, 1), (1.5, 2), (None, 2)])
def test_scales_up_to_1_are_one_branch_of_the_prompts(scale, branches):
    unet = stable_diffusion().unet
    guidance = guidance_for(unet, Options(guidance=scale), [0])
    prompts, empty = torch.ones(2, 3, 32), torch.zeros(2, 3, 32)
    labels, context = conditions_of(2, unet, [0], (prompts, empty), guidance).branches()
    assert len(labels) == len(context) == 2 * branches
    assert torch.equal(context[:2], prompts) and (branches == 1 or torch.equal(context[2:], empty))


def test_every_second_context_has_the_weight_of_calibration():
    prompts, empty = torch.full((4, 3, 32), 3.0), torch.ones(4, 3, 32)
    _, context = conditions_of(4, stable_diffusion().unet, [0], (prompts, empty), 7.5, 1.5).branches()
    assert [row.unique().item() for row in context] == [3.0, 4.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("labels", "asked", "found"),
    [([1, 2, 1000], None, 4.0), ([1, 2], None, None), ([1, 2], 0.5, 0.5), ([1000], None, None), ([1, 1000], 2.0, 2.0)],
)
def test_guidance_of_classes(labels, asked, found):
    transformer = dit().transformer
    guidance = guidance_for(transformer, Options(guidance=asked), labels)
    assert guidance == found
    rows, _ = conditions_of(4, transformer, labels, None, guidance).branches()
    guided = (found or 0) > 1
    assert len(rows) == (8 if guided else 4)
    assert not guided or [labels[row] for row in rows[4:]] == [1000] * 4
    assert labels == [1000] or 1000 not in [labels[row] for row in rows[:4]]


@pytest.mark.parametrize(
    ("pipeline", "scale"),
    [("PixArtAlphaPipeline", 4.5), ("StableDiffusionPipeline", 7.5), ("SomebodysPipeline", 7.5), (None, 7.5)],
)
def test_the_default_is_that_of_the_pipelines_class(pipeline, scale):
    assert guidance_for(stable_diffusion().unet, Options(), [0], pipeline) == scale


def test_guidance_without_the_null_label():
    with pytest.raises(ValueError, match="guidance needs some classes and the null label 1000; add it to --labels"):
        guidance_for(dit().transformer, Options(guidance=4.0), [1, 2])
    with pytest.raises(ValueError, match="names no label for 'no class'"):
        guidance_for(unet2d(), Options(guidance=4.0), [0])
