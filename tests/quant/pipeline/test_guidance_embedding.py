"""Distilled models: guidance that a model takes as an embedding (LCM)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel
from ditto_zynq.hls.artefact.model import load
from ditto_zynq.host.diffusers.drop_in import load_pipeline
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.pipeline.guidance_embedding import with_guidance
from ditto_zynq.quant.quantize import quantize

from tests.pipelines import stable_diffusion


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
