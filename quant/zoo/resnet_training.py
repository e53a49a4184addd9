"""Trains the small residual network, and prunes it meanwhile: how criteria compare where quality is one number."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from ...hls.common.files import replacing_file
from ..common.randomness import generator_of
from ..prune.concurrent import ConcurrentPruning, ConcurrentRecipe, give_back, narrow_copy
from ..prune.coupling import channel_groups
from ..prune.macs import LayerMacs, macs
from ..prune.surgery import Kept, kept_positions, widths_of
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
        self.recipe, self.out, self.epoch = recipe, out, 0
        torch.manual_seed(recipe.seed)
        dense = ResNet()
        groups = [group for group in channel_groups(dense, IMAGES) if group.name.endswith("conv1")]  # as the paper does
        self.most = int(recipe.macs * macs(dense, IMAGES))

        layers = LayerMacs(dense, IMAGES)

        def count(kept: Mapping[str, int]) -> int:
            chosen = {name: np.arange(number) for name, number in kept.items()}
            return layers.total(widths_of(dense, kept_positions(dense, groups, chosen)))

        schedule = ConcurrentRecipe(
            self.most, interval=1, last_epoch=recipe.last_pruning, criterion=recipe.criterion, seed=recipe.seed
        )
        self.pruning = ConcurrentPruning(dense, groups, count, schedule)
        self.model: nn.Module = copy.deepcopy(dense)
        train = load_split("train")
        self.images = as_images(train.images[: recipe.images])
        self.labels = torch.from_numpy(train.labels[: recipe.images].astype(np.int64))
        self._resume()
        self.optimizer = self._optimizer()

    def _optimizer(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        return torch.optim.SGD(
            self.model.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay
        )

    def train_epoch(self, progress: tqdm) -> None:
        """One epoch, before which channels may be chosen; momentum begins anew with each."""
        recipe = self.recipe
        if recipe.macs < 1 and self.pruning.recipe.is_due(self.epoch):
            self.model = self.pruning.choose(self.model, self.epoch)
        self.optimizer = self._optimizer()
        self.model.train()
        generator = generator_of(recipe.seed, self.epoch, stride=7_919)
        batches = torch.randperm(recipe.images, generator=generator).split(recipe.batch)[
            : recipe.images // recipe.batch
        ]
        for index, picked in enumerate(batches):
            share = (self.epoch + index / len(batches)) / recipe.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
            loss = F.cross_entropy(self.model(self.images[picked]), self.labels[picked])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            progress.update()
        self.epoch += 1
        self._save()

    def result(self) -> dict[str, Any]:
        """Test accuracy and multiplications."""
        test, count = load_split("t10k"), self.recipe.tests
        self.model.eval()
        with torch.no_grad():
            found = torch.cat([self.model(part).argmax(1) for part in as_images(test.images[:count]).split(500)])
        left = macs(self.model, IMAGES)
        dense = macs(self.pruning.dense, IMAGES)
        accuracy = float((found.numpy() == test.labels[:count]).mean())
        return {**asdict(self.recipe), "accuracy": accuracy, "multiplications": left, "of_dense": left / dense}

    def _save(self) -> None:
        give_back(self.model, self.pruning.dense, self.pruning.kept)
        tensors = {f"dense.{name}": value for name, value in self.pruning.dense.state_dict().items()}
        for path, kept in self.pruning.kept.items():
            tensors |= {f"{side}.{path}": torch.from_numpy(getattr(kept, side)) for side in ("outputs", "inputs")}
        with replacing_file(self.out / "resume.safetensors") as temporary:
            save_file(tensors, temporary, {"epoch": str(self.epoch), "recipe": json.dumps(asdict(self.recipe))})

    def _resume(self) -> None:
        from safetensors import safe_open

        path = self.out / "resume.safetensors"
        if not path.is_file():
            return
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        if json.loads(metadata["recipe"]) != asdict(self.recipe):
            raise ValueError(f"{path} is of another recipe; use the same one, or another output folder")
        tensors = load_file(path)
        paths = [name.removeprefix("outputs.") for name in tensors if name.startswith("outputs.")]
        self.pruning.kept = {
            path: Kept(tensors[f"outputs.{path}"].numpy(), tensors[f"inputs.{path}"].numpy()) for path in paths
        }
        dense = {name.removeprefix("dense."): value for name, value in tensors.items() if name.startswith("dense.")}
        self.pruning.dense.load_state_dict(dense)
        self.model = narrow_copy(self.pruning.dense, self.pruning.kept)
        self.epoch = int(metadata["epoch"])


def compare_criteria(recipe: ResNetRecipe, criteria: tuple[str, ...], seeds: int, out: Path) -> list[dict[str, Any]]:
    """The dense network, and each criterion's, for so many seeds: all results. Finished ones in ``out`` are not made again."""
    dense = [replace(recipe, macs=1.0, seed=seed) for seed in range(seeds)]
    pruned = [replace(recipe, criterion=name, seed=seed) for seed in range(seeds) for name in criteria]
    results = []
    for each in [*dense, *pruned]:
        folder = out / f"{'dense' if each.macs == 1 else each.criterion}-{each.seed}"
        results.append(train_resnet(each, folder))
    return results
