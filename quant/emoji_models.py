"""The shipped models on pictures and animations of :mod:`.emoji`: an autoencoder, and what denoises its latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from .emoji import SIZE, load_clips, load_pictures
from .trainer import Recipe, Trainer, run_convolutions_in_bfloat16

CLIP_FRAMES = 24  # of an animation, for the autoencoder and the video model
PICTURE_REPEATS = 3  # of the pictures among the more numerous frames
DIVERGENCE_WEIGHT = 1e-3  # of the latents from a normal distribution, per element

VAE_RECIPE = Recipe(steps=4_000, decay_steps=1_500, warmup_steps=100, batch=16, ema=0.999)


def build_vae() -> AutoencoderKL:
    """64x64x3 pictures to 16x16x4 latents, 1.6 M parameters."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def train_vae(recipe: Recipe, data: Path, out: Path) -> None:
    """Autoencoder of pictures and frames: mean absolute error, and the divergence of latents from a normal distribution.

    Writes a diffusers folder whose ``scaling_factor`` gives the pictures' latents a standard deviation of 1.
    """
    pictures, clips = load_pictures(data).images, load_clips(data, CLIP_FRAMES).frames
    images = np.concatenate([pictures] * PICTURE_REPEATS + [clips.reshape(-1, *pictures.shape[1:])])
    torch.manual_seed(recipe.seed)
    vae = build_vae().to(memory_format=torch.channels_last)

    def loss(picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        x = as_tensor(images[picked.numpy()]).to(memory_format=torch.channels_last)
        distribution = vae.encode(x).latent_dist
        noise = torch.randn(distribution.mean.shape, generator=generator)
        decoded = vae.decode(distribution.mean + distribution.std * noise).sample
        divergence = 0.5 * (distribution.mean**2 + distribution.var - 1 - distribution.logvar).mean()
        return F.l1_loss(decoded, x) + DIVERGENCE_WEIGHT * divergence

    trainer = Trainer(recipe, out, vae, loss, len(images))
    run_convolutions_in_bfloat16(vae)
    trainer.run()
    final = build_vae()
    final.load_state_dict(trainer.average)
    deviation = encode_pictures(final, pictures).std().item()
    final.register_to_config(scaling_factor=1 / deviation)
    final.save_pretrained(out)


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, images: np.ndarray) -> torch.Tensor:
    """Means of the latents of uint8 [N, H, W, 3], float32 [N, 4, H / 4, W / 4], times the scaling factor."""
    parts = [vae.encode(as_tensor(part)).latent_dist.mean for part in np.array_split(images, len(images) // 64 + 1)]
    return torch.cat(parts) * vae.config.scaling_factor
