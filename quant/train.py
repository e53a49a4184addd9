"""Train the shipped models: a class-conditional DDPM on Fashion-MNIST, the classifier that judges it, models of emoji."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from ..hls.files import replacing_file
from .fashion_mnist import CLASSES, load_split
from .trainer import Recipe, Trainer, run_convolutions_in_bfloat16

NULL_LABEL = len(CLASSES)


@dataclass(frozen=True)
class DDPMRecipe(Recipe):
    """Of the bundled model. ``label_dropout``: how often the label is left out."""

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


class Classifier(nn.Module):
    """A small CNN, [B, 1, 28, 28] in [-1, 1] -> logits [B, 10]. Its 128 penultimate features serve the Fréchet distance."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_stage(1, 32) + _stage(32, 64) + _stage(64, 128)), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(128, len(CLASSES))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def train_classifier(out: Path, epochs: int = 8, batch: int = 128, learning_rate: float = 2e-3, seed: int = 0) -> float:
    """Train :class:`Classifier`, write ``out`` (safetensors, test accuracy in its metadata), return that accuracy."""
    torch.manual_seed(seed)
    train, test = load_split("train"), load_split("t10k")
    images, labels = as_images(train.images), torch.from_numpy(train.labels.astype(np.int64))
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=1e-2)
    total = epochs * (len(images) // batch)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total)))
    with tqdm(total=total, desc="classifier", unit="step", mininterval=5) as progress:
        for _ in range(epochs):
            for picked in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
                loss = F.cross_entropy(model(images[picked]), labels[picked], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()
                progress.update()
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in as_images(test.images).split(500)])
    accuracy = float((predicted.numpy() == test.labels).mean())
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(out) as temporary:
        save_file(model.state_dict(), temporary, {"test_accuracy": f"{accuracy:.4f}"})
    return accuracy


def as_images(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, 28, 28] -> float32 [N, 1, 28, 28] in [-1, 1]."""
    return torch.from_numpy(images.astype(np.float32)).div(127.5).sub(1).unsqueeze(1)


@click.group()
def main() -> None:
    """Train the models that the repository ships."""


def _training(command: Callable[..., None]) -> Callable[..., None]:
    """Expected errors in one line."""

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
    from .evaluate import train_classifier

    pictures = load_pictures(data)
    accuracy = train_classifier(pictures.images, pictures.labels, out)
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
