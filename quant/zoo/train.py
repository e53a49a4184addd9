"""Train the shipped models: a class-conditional DDPM on Fashion-MNIST, the classifier that judges it, models of emoji."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch.nn import functional as F

from ..common.trainer import Recipe, Trainer, run_convolutions_in_bfloat16
from .classifiers import as_images, train_classifier, train_emoji_classifier
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


def train_ddpm(recipe: DDPMRecipe, out: Path, save_every: int = 500) -> None:
    """Train and write a diffusers folder to ``out``; ``out/resume.safetensors`` is where an interrupted run goes on."""
    # Clipping each step's estimate of the image to [-1, 1] brightens dark pixels as soon as the estimate is noisy.
    scheduler = DDPMScheduler(
        num_train_timesteps=1000, beta_schedule="linear", prediction_type="epsilon", clip_sample=False
    )
    torch.manual_seed(recipe.seed)
    model = build_unet(recipe.channels).to(memory_format=torch.channels_last)
    train = load_split("train")
    images, labels = as_images(train.images), torch.from_numpy(train.labels.astype(np.int64))

    def loss(picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The simple noise-prediction loss (DDPM, Ho et al. 2020, eq. 14)."""
        noise = torch.randn((recipe.batch, 1, 28, 28), generator=generator)
        timesteps = torch.randint(0, 1000, (recipe.batch,), generator=generator)
        dropped = torch.rand(recipe.batch, generator=generator) < recipe.label_dropout
        noisy = scheduler.add_noise(images[picked], noise, timesteps).to(memory_format=torch.channels_last)
        classes = labels[picked].masked_fill(dropped, NULL_LABEL)
        return F.mse_loss(model(noisy, timesteps, class_labels=classes).sample, noise)

    trainer = Trainer(recipe, out, model, loss, len(images))
    run_convolutions_in_bfloat16(model)
    trainer.run(save_every)
    final = build_unet(recipe.channels)
    final.load_state_dict(trainer.average)
    DDPMPipeline(final, scheduler).save_pretrained(out)


@click.group()
def main() -> None:
    """Train the models that the repository ships."""


def _training(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose expected errors are said in one line."""

    @functools.wraps(command)
    def wrapped(*args: Any, threads: int, **kwargs: Any) -> None:
        if threads:
            torch.set_num_threads(threads)
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            raise click.ClickException("interrupted; the same command goes on from the last checkpoint") from None
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error)) from error

    return click.option("--threads", default=0, help="CPU threads (default: all).")(wrapped)


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/ddpm"), show_default=True)
@click.option("--steps", default=DDPMRecipe.steps, show_default=True, help="May be raised to prolong a finished run.")
@click.option("--decay-steps", default=DDPMRecipe.decay_steps, show_default=True)
@click.option("--seed", default=DDPMRecipe.seed, show_default=True)
@_training
def ddpm(out: Path, steps: int, decay_steps: int, seed: int) -> None:
    """Train the DDPM on Fashion-MNIST; interrupted, the same command goes on from the last checkpoint."""
    train_ddpm(DDPMRecipe(steps=steps, decay_steps=decay_steps, seed=seed), out)


@main.command()
@click.argument("kind", type=click.Choice(["vae", "text", "class", "video"]))
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path("runs/data"), show_default=True, help="Fetched packages."
)
@click.option(
    "--vae", type=click.Path(path_type=Path), default=Path("runs/emoji-vae"), show_default=True, help="The autoencoder."
)
@click.option("--out", type=click.Path(path_type=Path), help="Default: runs/emoji-KIND.")
@click.option("--steps", type=int, help="May be raised to prolong a finished run; default: the recipe's.")
@_training
def emoji(kind: str, data: Path, vae: Path, out: Path | None, steps: int | None) -> None:
    """Train a model of emoji: first the autoencoder (vae), then text-to-image (text), class-to-image (class) or video.

    The pictures are fetched with npm.
    """
    from . import emoji_models

    out = out or Path(f"runs/emoji-{kind}")
    recipe = emoji_models.RECIPES[kind]
    recipe = replace(recipe, steps=steps) if steps else recipe
    if kind == "vae":
        emoji_models.train_vae(recipe, data, out)
    else:
        emoji_models.TRAININGS[kind](recipe, data, vae, out)


@main.command()
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path("runs/data"), show_default=True, help="Fetched packages."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/emoji-classifier.safetensors"), show_default=True
)
@_training
def emoji_classifier(data: Path, out: Path) -> None:
    """Train the classifier that judges images of emoji by their category."""
    from .emoji import load_pictures

    pictures = load_pictures(data)
    accuracy = train_emoji_classifier(pictures.images, pictures.labels, out)
    click.echo(f"{out}: accuracy {accuracy:.4f} on pictures held out")


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/classifier.safetensors"), show_default=True)
@click.option("--epochs", default=8, show_default=True)
def classifier(out: Path, epochs: int) -> None:
    """Train the classifier that judges generated images."""
    try:
        accuracy = train_classifier(out, epochs)
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
