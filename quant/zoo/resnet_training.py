"""Trains the small residual network, and prunes it meanwhile: how criteria compare where quality is one number."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from ...hls.common.files import replacing_file
from ..common.options import LARGEST_SEED, check_whole
from ..common.randomness import generator_of
from ..common.trainer import best_device
from ..prune.allocation import allocate, counter, widths_of_groups
from ..prune.concurrent import ConcurrentPruning, ConcurrentRecipe
from ..prune.coupling import channel_groups
from ..prune.macs import macs
from .classifiers import as_images
from .fashion_mnist import load_split
from .resnet import ResNet

IMAGES = {"images": torch.zeros(1, 1, 28, 28)}


@dataclass(frozen=True)
class ResNetRecipe:
    """How a network is trained: SGD with momentum, a cosine of the learning rate. ``macs``: which share of the multiplications is
    left in the end; 1 prunes nothing. ``images`` and ``tests``: how many of the training and of the test images."""

    epochs: int = 10
    batch: int = 128
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    macs: float = 1.0
    criterion: str = "reprune"
    last_pruning: int = 6
    images: int = 60_000
    tests: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.macs <= 1:
            raise ValueError(f"found macs {self.macs}, expected the share of multiplications to keep, up to 1")
        for name in ("epochs", "batch", "images", "tests"):
            check_whole(name, getattr(self, name), 1)
        check_whole("seed", self.seed, 0, LARGEST_SEED)
        if self.images < self.batch:
            raise ValueError(f"found {self.images} images, expected a batch of {self.batch} or more")
        if self.macs < 1 and not 0 < self.last_pruning < self.epochs:
            raise ValueError(
                f"found {self.last_pruning} as the last epoch with a choice, expected one of 1 to {self.epochs - 1}"
            )


def train_resnet(recipe: ResNetRecipe, out: Path) -> dict[str, Any]:
    """Train, and return test accuracy and multiplications, which ``out/result.json`` has, too.

    An interrupted training goes on after the last epoch that ``out`` has; ValueError where that is of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(recipe, out)
    steps = recipe.epochs * (recipe.images // recipe.batch)
    done = run.epoch * (recipe.images // recipe.batch)
    with tqdm(
        total=steps, initial=done, desc=f"{recipe.criterion} {recipe.seed}", unit="step", mininterval=5
    ) as progress:
        while run.epoch < recipe.epochs:
            run.train_epoch(progress)
    result = run.result()
    with replacing_file(out / "result.json") as temporary:
        Path(temporary).write_text(json.dumps(result, indent=1) + "\n")
    return result


class _Run:
    """A dense network, what of it is trained, and how far that is."""

    def __init__(self, recipe: ResNetRecipe, out: Path):
        self.recipe, self.checkpoint = recipe, out / "resume.safetensors"
        torch.manual_seed(recipe.seed)
        dense = ResNet()
        groups = [group for group in channel_groups(dense, IMAGES) if group.name.endswith("conv1")]  # as the paper does
        self.dense_macs = macs(dense, IMAGES)
        schedule = ConcurrentRecipe(
            int(recipe.macs * self.dense_macs),
            interval=1,
            last_epoch=recipe.last_pruning,
            criterion=recipe.criterion,
            seed=recipe.seed,
        )
        if recipe.macs < 1:  # refuses what cannot be, before any training
            allocate(widths_of_groups(groups, dense, schedule.grain), counter(dense, groups, IMAGES), schedule.most)
        self.pruning = ConcurrentPruning(dense, groups, counter(dense, groups, IMAGES), schedule)
        train = load_split("train")
        self.images = as_images(train.images[: recipe.images])
        self.labels = torch.from_numpy(train.labels[: recipe.images].astype(np.int64))
        self.epoch = self.pruning.resume(self.checkpoint, asdict(recipe))

    def _optimizer(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        return torch.optim.SGD(
            self.pruning.model.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay
        )

    def train_epoch(self, progress: tqdm) -> None:
        """One epoch, before which channels may be chosen; momentum begins anew with each."""
        recipe = self.recipe
        if recipe.macs < 1 and self.pruning.recipe.is_due(self.epoch):
            self.pruning.choose(self.epoch)
        model, optimizer = self.pruning.model.to(best_device()).train(), self._optimizer()
        device = best_device()
        generator = generator_of(recipe.seed, self.epoch, stride=7_919)
        batches = torch.randperm(recipe.images, generator=generator).split(recipe.batch)[
            : recipe.images // recipe.batch
        ]
        for index, picked in enumerate(batches):
            share = (self.epoch + index / len(batches)) / recipe.epochs
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
            loss = F.cross_entropy(model(self.images[picked].to(device)), self.labels[picked].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.update()
        model.cpu()
        self.epoch += 1
        self.pruning.save(self.checkpoint, self.epoch, asdict(recipe))

    def result(self) -> dict[str, Any]:
        """Test accuracy and multiplications."""
        test, count = load_split("t10k"), self.recipe.tests
        model = self.pruning.model.eval()
        with torch.no_grad():
            found = torch.cat([model(part).argmax(1) for part in as_images(test.images[:count]).split(500)])
        left = macs(model, IMAGES)
        accuracy = float((found.numpy() == test.labels[:count]).mean())
        return {
            **asdict(self.recipe),
            "accuracy": accuracy,
            "multiplications": left,
            "of_dense": left / self.dense_macs,
        }


def compare_criteria(recipe: ResNetRecipe, criteria: tuple[str, ...], seeds: int, out: Path) -> list[dict[str, Any]]:
    """The dense network, and each criterion's, for so many seeds: all results. Finished ones in ``out`` are not made again."""
    check_whole("seeds", seeds, 1)
    dense = [replace(recipe, macs=1.0, seed=seed) for seed in range(seeds)]
    pruned = [replace(recipe, criterion=name, seed=seed) for seed in range(seeds) for name in criteria]
    results = []
    for each in [*dense, *pruned]:
        folder = out / f"{'dense' if each.macs == 1 else each.criterion}-{each.seed}"
        results.append(train_resnet(each, folder))
    return results
