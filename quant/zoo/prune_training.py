"""Commands that prune while they train from scratch (REPrune, AAAI 2024, algorithm 2). Called by scripts/prune."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch

from ..prune.criteria import CRITERIA
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
@click.option("--threads", default=0, help="CPU threads (default: all).")
def resnet(out: Path, macs: float, epochs: int, last_pruning: int, images: int, seeds: int, threads: int) -> None:
    """A small residual network on Fashion-MNIST: dense, and pruned by each criterion. Finished runs are not made again."""
    if not 0 < macs < 1:
        raise click.ClickException(f"found macs {macs}, expected the share of multiplications to keep, between 0 and 1")
    if threads:
        torch.set_num_threads(threads)
    recipe = ResNetRecipe(epochs=epochs, images=images, macs=macs, last_pruning=last_pruning)
    try:
        results = compare_criteria(recipe, WITHOUT_GRADIENTS, seeds, out)
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; the same command goes on after the last epoch") from None
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
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


if __name__ == "__main__":
    main()
