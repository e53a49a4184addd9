"""Commands that train the shipped models: a DDPM on Fashion-MNIST, the classifiers that judge, models of emoji. Called by
scripts/train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from .classifiers import train_classifier, train_emoji_classifier
from .commands import training
from .ddpm import DDPMRecipe, train_ddpm


@click.group()
def main() -> None:
    """Train the models that the repository ships."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/ddpm"), show_default=True)
@click.option("--steps", default=DDPMRecipe.steps, show_default=True, help="May be raised to prolong a finished run.")
@click.option("--decay-steps", default=DDPMRecipe.decay_steps, show_default=True)
@click.option("--seed", default=DDPMRecipe.seed, show_default=True)
@training
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
@training
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
@training
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
