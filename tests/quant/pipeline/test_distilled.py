"""Distilled models: guidance that a model takes as an embedding (LCM), and one branch where the scale is no guidance (turbo)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel
from ditto_zynq.hls.artefact.model import load
from ditto_zynq.host.diffusers.drop_in import load_pipeline
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.pipeline.conditions import conditions_of, guidance_for
from ditto_zynq.quant.pipeline.guidance_embedding import with_guidance
from ditto_zynq.quant.quantize import quantize

from tests.pipelines import dit, stable_diffusion, unet2d


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """A latent consistency pipeline whose guidance matters, and its quantization for 2 steps of guidance 3."""
    torch.manual_seed(0)
    base = stable_diffusion()
    unet = UNet2DConditionModel(**{**base.unet.config, "sample_size": 16, "time_cond_proj_dim": 32})
    unet.time_embedding.cond_proj.weight.data *= 30
    parts = {
        name: value for name, value in base.components.items() if name not in ("unet", "scheduler", "image_encoder")
    }
    scheduler = LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    pipeline = LatentConsistencyModelPipeline(**parts, unet=unet, scheduler=scheduler, requires_safety_checker=False)
    folder = tmp_path_factory.mktemp("distilled")
    pipeline.save_pretrained(folder / "float")
    quantize(folder / "float", folder / "model", Schedule("lcm", 2, 0.0, 2), Options(2, 0.0, False, 0, guidance=3.0))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, folder / "model"


def run(pipeline, guidance: float) -> np.ndarray:
    given = {"num_inference_steps": 2, "guidance_scale": guidance, "output_type": "latent"}
    return np.asarray(pipeline("french fries", generator=torch.Generator().manual_seed(1), **given).images)


def test_the_embedding_is_part_of_the_model(distilled):
    unet, embedding = distilled[0].unet, with_guidance(distilled[0].unet, 3.0)[1]
    folded, _ = with_guidance(unet, 3.0)
    sample, context = torch.randn(1, 4, 16, 16), torch.randn(1, 5, 32)
    with torch.no_grad():
        expected = unet(sample, 499, context, timestep_cond=torch.tensor([embedding])).sample
        assert torch.allclose(folded(sample, 499, context).sample, expected, atol=1e-5)
        assert not torch.allclose(unet(sample, 499, context).sample, expected, atol=1e-3), (
            "the model itself has changed"
        )


def test_its_pipeline_runs_with_that_guidance_and_no_other(distilled):
    pipeline, folder = distilled
    artefact = load(folder)
    assert artefact.branches == 1 and artefact.quantization["guidance"] == 3.0
    quantized = load_pipeline(folder)
    assert type(quantized.scheduler) is LCMScheduler
    quantized.set_progress_bar_config(disable=True)
    found, expected, other = run(quantized, 3.0), run(pipeline, 3.0), run(pipeline, 8.5)
    assert ((found - expected) ** 2).mean() < ((other - expected) ** 2).mean() / 4, "it is that guidance, and no other"
    with pytest.raises(
        ValueError, match="found timestep_cond that the model was not quantized for; give that of the guidance_scale"
    ):
        run(quantized, 8.5)


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
