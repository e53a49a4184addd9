"""Commands that prune while they train from scratch (REPrune, AAAI 2024, algorithm 2). Called by scripts/prune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from ..prune.criteria import CRITERIA
from .commands import training
from .ddpm_pruning import PrunedDDPMRecipe, train_pruned_ddpm
from .resnet_training import ResNetRecipe, compare_criteria

WITHOUT_GRADIENTS = tuple(name for name in CRITERIA if name != "taylor")


@click.group()
def main() -> None:
    """Prune models while they are trained from scratch."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/prune-resnet"), show_default=True)
@click.option("--macs", default=0.45, show_default=True, help="Share of the multiplications to keep.")
@click.option("--epochs", default=ResNetRecipe.epochs, show_default=True)
@click.option("--last-pruning", default=ResNetRecipe.last_pruning, show_default=True, help="Epoch of the last choice.")
@click.option("--images", default=ResNetRecipe.images, show_default=True, help="How many of the training images.")
@click.option("--seeds", default=3, show_default=True)
@training
def resnet(out: Path, macs: float, epochs: int, last_pruning: int, images: int, seeds: int) -> None:
    """A small residual network on Fashion-MNIST: dense, and pruned by each criterion. Finished runs are not made again."""
    if not 0 < macs < 1:
        raise ValueError(f"found macs {macs}, expected the share of multiplications to keep, between 0 and 1")
    recipe = ResNetRecipe(epochs=epochs, images=images, macs=macs, last_pruning=last_pruning)
    results = compare_criteria(recipe, WITHOUT_GRADIENTS, seeds, out)
    for name, chosen in [("dense", lambda each: each["macs"] == 1)] + [
        (criterion, lambda each, criterion=criterion: each["macs"] < 1 and each["criterion"] == criterion)
        for criterion in WITHOUT_GRADIENTS
    ]:
        found = [each for each in results if chosen(each)]
        accuracies = np.array([each["accuracy"] for each in found])
        click.echo(
            f"{name}: accuracy {accuracies.mean():.4f} (from {accuracies.min():.4f} to {accuracies.max():.4f}), "
            f"{np.mean([each['of_dense'] for each in found]):.1%} of the multiplications"
        )


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/pruned-ddpm"), show_default=True)
@click.option("--macs", default=PrunedDDPMRecipe.macs, show_default=True, help="Share of the multiplications to keep.")
@click.option(
    "--criterion", type=click.Choice(WITHOUT_GRADIENTS), default=PrunedDDPMRecipe.criterion, show_default=True
)
@click.option("--steps", default=PrunedDDPMRecipe.steps, show_default=True)
@click.option("--decay-steps", default=PrunedDDPMRecipe.decay_steps, show_default=True)
@click.option("--interval", default=PrunedDDPMRecipe.interval, show_default=True, help="Steps from choice to choice.")
@click.option(
    "--last-pruning", default=PrunedDDPMRecipe.last_pruning, show_default=True, help="Step of the last choice."
)
@click.option("--seed", default=PrunedDDPMRecipe.seed, show_default=True)
@training
def ddpm(out: Path, seed: int, **options: Any) -> None:
    """The DDPM on Fashion-MNIST, pruned by the scales of its GroupNorms while it is trained; no dense model is needed."""
    found = train_pruned_ddpm(PrunedDDPMRecipe(seed=seed, **options), out)["multiplications"]
    click.echo(f"{out}: {found['pruned']:,} of {found['dense']:,} multiplications ({found['share']:.1%})")


if __name__ == "__main__":
    main()
