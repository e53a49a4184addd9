"""What diffusers' pipelines know of quantized denoisers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from ditto_zynq.host.diffusers.drop_in import load_pipeline

from tests.host.stock_pipelines import run


def test_what_users_do_with_pipelines(folders, tmp_path, monkeypatch):
    """Compiled, handed to another pipeline, or to be saved or changed: right, or one line before anything is written."""
    _, quantized = folders("stable_diffusion")
    pipeline = load_pipeline(quantized)
    expected = run(pipeline, "stable_diffusion")
    other = StableDiffusionImg2ImgPipeline.from_pipe(pipeline)
    assert other.unet is pipeline.unet
    with pytest.raises(ValueError, match="the unet is quantized: copy the folder"):
        other.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    for change in (
        lambda: pipeline.enable_freeu(0.9, 0.2, 1.2, 1.4),
        lambda: pipeline.unet.load_lora_adapter({}),
        lambda: pipeline.unet.add_adapter(None),
        lambda: pipeline.unet.set_attn_processor(None),
        lambda: pipeline.fuse_qkv_projections(),
    ):
        with pytest.raises(AttributeError, match="this one is quantized: change the float model"):
            change()
    monkeypatch.setattr("diffusers.utils.USE_PEFT_BACKEND", True)  # without it diffusers asks for PEFT first
    lora = {"unet.down_blocks.0.attentions.0.proj_in.lora_A.weight": torch.zeros(1, 32)}
    for change in (
        lambda: pipeline.load_lora_into_unet(lora, {}, pipeline.unet),
        lambda: pipeline.load_lora_weights(lora),
    ):
        with pytest.raises(AttributeError, match=r"load_lora_adapter .*fuse LoRA into it with .* quantize that"):
            change()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pipeline.unet.nonsense
    pipeline.unet = torch.compile(pipeline.unet)
    assert np.array_equal(run(pipeline, "stable_diffusion"), expected)
