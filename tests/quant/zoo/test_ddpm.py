"""What training the bundled model makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from diffusers import DDPMPipeline
from ditto_zynq.quant.zoo.ddpm import DDPMRecipe, build_unet, train_ddpm

pytestmark = pytest.mark.usefixtures("one_thread", "small_data")
RECIPE = DDPMRecipe(steps=6, decay_steps=2, warmup_steps=2, batch=4, channels=(8, 32))


def test_the_result_is_a_diffusers_pipeline(tmp_path):
    train_ddpm(replace(RECIPE, steps=1), tmp_path)
    pipeline = DDPMPipeline.from_pretrained(tmp_path)
    assert pipeline.unet.config.num_class_embeds == 11 and pipeline.scheduler.config.beta_schedule == "linear"


def test_the_architecture_has_what_the_papers_models_have():
    unet = build_unet((32, 64, 128))
    kinds = {type(module).__name__ for module in unet.modules()}
    assert {"ResnetBlock2D", "GroupNorm", "SiLU", "Downsample2D", "Upsample2D", "Attention"} <= kinds
