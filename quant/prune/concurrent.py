"""Pruning while training (REPrune, AAAI 2024, algorithm 2): every few epochs layers get new widths by the norms' scales.

Channels are chosen anew then, so that some come back; after the last time the structure stays, and training goes on as any other.
Only the channels that are chosen are trained. All others wait in the dense model with the values that they had when they went,
and return with these (CHEX, CVPR 2022).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ...hls.common.files import replacing_file
from .allocation import Count, Grain, allocate, least_of, structure_of, widths_of_groups
from .coupling import ChannelGroup
from .criteria import CRITERIA, Filters
from .narrow import narrow
from .surgery import Kept, kept_positions, transfer, widths_of

SIDES = ("outputs", "inputs")


@dataclass(frozen=True)
class ConcurrentRecipe:
    """``most`` multiplications are left of the model. Channels are chosen every ``interval`` epochs up to ``last_epoch``;
    ``regrown``: which share of the channels that would go stays at the first time, falling to none at the last one (CHEX)."""

    most: int
    interval: int = 2
    last_epoch: int = 8
    regrown: float = 0.3
    criterion: str = "reprune"
    grain: Grain = Grain(tile=1, lanes=1)  # noqa: RUF009 - a frozen value
    seed: int = 0

    def is_due(self, epoch: int) -> bool:
        """Whether channels are chosen before this epoch; the first one trains the dense model."""
        return 0 < epoch <= self.last_epoch and (epoch % self.interval == 0 or epoch == self.last_epoch)

    def regrown_at(self, epoch: int) -> float:
        """The share at an epoch: a cosine's quarter."""
        return self.regrown * float(np.cos(np.pi / 2 * epoch / self.last_epoch))


class ConcurrentPruning:
    """A dense model on the CPU, and a narrower copy, ``model``, that is trained: first one of all channels."""

    def __init__(self, dense: nn.Module, groups: Sequence[ChannelGroup], count: Count, recipe: ConcurrentRecipe):
        self.dense, self.groups, self.count, self.recipe = dense, groups, count, recipe
        self.kept: dict[str, Kept] = {}
        self.model = copy.deepcopy(dense)

    def choose(self, epoch: int) -> None:
        """Take back what ``model`` has learned, and choose channels again: ``model`` is another one from now on."""
        give_back(self.model, self.dense, self.kept)
        random = np.random.default_rng([self.recipe.seed, epoch])
        widths = allocate(widths_of_groups(self.groups, self.dense, self.recipe.grain), self.count, self.recipe.most)
        chosen = {group.name: self._choose(group, widths[group.name], epoch, random) for group in self.groups}
        self.kept = kept_positions(self.dense, self.groups, chosen)
        self.model = narrow_copy(self.dense, self.kept)

    def _choose(self, group: ChannelGroup, keep: int, epoch: int, random: np.random.Generator) -> np.ndarray:
        structure = structure_of(group, self.dense)
        chosen = CRITERIA[self.recipe.criterion](Filters(tuple(group.kernels(self.dense)), structure), keep, random)
        least = least_of(group, self.dense)
        regrown = int(self.recipe.regrown_at(epoch) * (group.size - len(chosen)) / least) * least
        return structure.with_others(chosen, regrown, random)

    def save(self, path: Path, epochs: int, recipe: Mapping[str, Any]) -> None:
        """Write the state after so many epochs of a training by ``recipe``; :meth:`resume` goes on with it."""
        give_back(self.model, self.dense, self.kept)
        tensors = {f"dense.{name}": value.contiguous() for name, value in self.dense.state_dict().items()}
        for module, kept in self.kept.items():
            tensors |= {f"{side}.{module}": torch.from_numpy(getattr(kept, side)) for side in SIDES}
        with replacing_file(path) as temporary:
            save_file(tensors, temporary, {"epochs": str(epochs), "recipe": json.dumps(recipe)})

    def resume(self, path: Path, recipe: Mapping[str, Any]) -> int:
        """Go on with the state that ``path`` has, if it is there: how many epochs are done. ValueError where it is of another
        recipe."""
        if not path.is_file():
            return 0
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        if json.loads(metadata["recipe"]) != json.loads(json.dumps(recipe)):
            raise ValueError(f"{path} is of another recipe; use the same one, or another output folder")
        tensors = load_file(path)
        modules = [name.removeprefix("outputs.") for name in tensors if name.startswith("outputs.")]
        self.kept = {module: Kept(*(tensors[f"{side}.{module}"].numpy() for side in SIDES)) for module in modules}
        self.dense.load_state_dict({name: tensors[f"dense.{name}"] for name in self.dense.state_dict()})
        self.model = narrow_copy(self.dense, self.kept)
        return int(metadata["epochs"])


def narrow_copy(dense: nn.Module, kept: Mapping[str, Kept]) -> nn.Module:
    """A copy of ``dense`` with the channels that stay alone."""
    result = copy.deepcopy(dense)
    narrow(result, widths_of(dense, kept))
    transfer(dense, result, kept)
    return result


@torch.no_grad()
def give_back(trained: nn.Module, dense: nn.Module, kept: Mapping[str, Kept]) -> None:
    """Write the parameters of a narrow model to their places in the dense one, which keeps the others' values."""
    state = dense.state_dict()
    for name, value in trained.state_dict().items():
        path = name.rpartition(".")[0]
        if path not in kept or not value.ndim:
            state[name].copy_(value)
            continue
        outputs, inputs = torch.from_numpy(kept[path].outputs), torch.from_numpy(kept[path].inputs)
        if value.ndim == 1:
            state[name][outputs] = value
        else:
            state[name][outputs[:, None], inputs] = value
