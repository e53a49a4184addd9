"""The bundled model, a class-conditional DDPM on Fashion-MNIST, and how it is trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from ..common.trainer import Recipe, Trainer, best_device, regression, run_convolutions_in_bfloat16
from .classifiers import as_images
from .fashion_mnist import CLASSES, load_split

NULL_LABEL = len(CLASSES)


@dataclass(frozen=True)
class DDPMRecipe(Recipe):
    """How the bundled model is trained. ``label_dropout``: how often the label is left out."""

    steps: int = 20_000
    decay_steps: int = 5_000
    label_dropout: float = 0.1
    channels: tuple[int, ...] = (32, 64, 128)


def build_unet(channels: tuple[int, ...]) -> UNet2DModel:
    """The bundled architecture: 28x28x1 images, one residual block a level, self-attention on the 7x7 level."""
    plain = len(channels) - 1
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
        norm_num_groups=8,
        attention_head_dim=32,
        num_class_embeds=NULL_LABEL + 1,
    )


@dataclass(frozen=True)
class NoisyImages:
    """Images float [N, 1, 28, 28] and labels int [N], noised as ``scheduler`` says; ``label_dropout``: how often a label is left
    out."""

    images: torch.Tensor
    labels: torch.Tensor
    scheduler: DDPMScheduler
    label_dropout: float

    @staticmethod
    def load(label_dropout: float) -> NoisyImages:
        """The training images."""
        train = load_split("train")
        labels = torch.from_numpy(train.labels.astype(np.int64))
        return NoisyImages(as_images(train.images), labels, build_scheduler(), label_dropout)

    def draw(self, picked: torch.Tensor, generator: torch.Generator) -> tuple[Mapping[str, Any], torch.Tensor]:
        """Inputs of the model for these images at random timesteps, and their noise, which it learns to predict (DDPM, Ho et al.
        2020, equation 14)."""
        count = len(picked)
        noise = torch.randn((count, 1, 28, 28), generator=generator)
        timesteps = torch.randint(0, 1000, (count,), generator=generator)
        dropped = torch.rand(count, generator=generator) < self.label_dropout
        noisy = self.scheduler.add_noise(self.images[picked], noise, timesteps).to(memory_format=torch.channels_last)
        classes = self.labels[picked].masked_fill(dropped, NULL_LABEL)
        return {"sample": noisy, "timestep": timesteps, "class_labels": classes}, noise


def build_scheduler() -> DDPMScheduler:
    """The linear schedule of 1,000 steps. Clipping each step's estimate of the image to [-1, 1] brightens dark pixels as soon as
    the estimate is noisy, so it is off."""
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type="epsilon", clip_sample=False)


def train_ddpm(recipe: DDPMRecipe, out: Path, save_every: int = 500) -> None:
    """Train and write a diffusers folder to ``out``; ``out/resume.safetensors`` is where an interrupted run goes on."""
    torch.manual_seed(recipe.seed)
    model = build_unet(recipe.channels)
    final = trained(model, recipe, NoisyImages.load(recipe.label_dropout), out, save_every)
    DDPMPipeline(final, build_scheduler()).save_pretrained(out)


def trained(model: UNet2DModel, recipe: DDPMRecipe, data: NoisyImages, out: Path, save_every: int) -> UNet2DModel:
    """The model with the averaged weights of a training; ``model`` itself is changed."""
    fast = copy.deepcopy(model).to(best_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = Trainer(recipe, out, fast, regression(fast, data.draw), len(data.images))
    run_convolutions_in_bfloat16(fast)
    trainer.run(save_every)
    model.load_state_dict(trainer.average)
    return model.eval()
