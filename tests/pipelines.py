"""Small pipelines of every family, with the dummy components that diffusers' own fast tests build, at their shapes."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    LattePipeline,
    LatteTransformer3DModel,
    LDMPipeline,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from ditto_zynq.quant.zoo.emoji_models import build_clip, build_t5
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

CAPTIONS = ["a painting of a squirrel eating a burger", "low quality", "french fries", "0123456789"]


def unet2d() -> UNet2DModel:
    return UNet2DModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=[4, 8],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D", "DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=4,
        norm_num_groups=2,
    )


def ddpm() -> DDPMPipeline:
    return DDPMPipeline(unet2d(), DDPMScheduler())


def ddim() -> DDIMPipeline:
    return DDIMPipeline(unet2d(), DDIMScheduler())


def latent_diffusion() -> LDMPipeline:
    """Unconditional, with an autoencoder of another name: ``vqvae``, and images twice as large as its latents."""
    autoencoder = VQModel(
        block_out_channels=(4, 8),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=3,
        norm_num_groups=2,
    )
    return LDMPipeline(autoencoder, unet2d(), DDIMScheduler(clip_sample=False))


def stable_diffusion() -> StableDiffusionPipeline:
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        norm_num_groups=2,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    tokenizer, _ = build_clip(CAPTIONS)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            bos_token_id=0,
            eos_token_id=2,
            hidden_size=32,
            intermediate_size=64,
            layer_norm_eps=1e-05,
            num_attention_heads=8,
            num_hidden_layers=3,
            pad_token_id=1,
            vocab_size=1000,
        )
    )
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    )


def dit() -> DiTPipeline:
    transformer = DiTTransformer2DModel(
        sample_size=16,
        num_layers=2,
        patch_size=4,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    return DiTPipeline(transformer, vae(), DDIMScheduler())


def latte() -> LattePipeline:
    transformer = LatteTransformer3DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        video_length=2,
    )
    tokenizer, _ = build_t5(CAPTIONS)
    text_encoder = T5EncoderModel(T5Config(vocab_size=200, d_model=32, d_ff=64, d_kv=8, num_layers=1, num_heads=4))
    return LattePipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=vae(), transformer=transformer, scheduler=DDIMScheduler()
    )


def pixart(pipeline: type = PixArtAlphaPipeline) -> DiffusionPipeline:
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=3,
        in_channels=4,
        out_channels=8,
        caption_channels=32,
        cross_attention_dim=12,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        use_additional_conditions=False,
    )
    tokenizer, _ = build_t5(CAPTIONS)
    encoder = T5EncoderModel(T5Config(vocab_size=200, d_model=32, d_ff=64, d_kv=8, num_layers=1, num_heads=4))
    return pipeline(tokenizer, encoder, vae(), transformer, DDIMScheduler())


FAMILIES = {
    "ddpm": ddpm,
    "ddim": ddim,
    "latent_diffusion": latent_diffusion,
    "stable_diffusion": stable_diffusion,
    "dit": dit,
    "latte": latte,
}


def save(family: str, folder: Path, seed: int = 0) -> DiffusionPipeline:
    """A pipeline of random weights, in ``folder``; biases and norms are not what they are initialised to."""
    torch.manual_seed(seed)
    pipeline = FAMILIES[family]()
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    for parameter in denoiser.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    pipeline.save_pretrained(folder)
    return pipeline
