"""Pruning while training (REPrune, AAAI 2024, algorithm 2): every few epochs layers get new widths by the norms' scales.

Channels are chosen anew then, so that some come back; after the last time the structure stays, and training goes on as any other.
Only the channels that are chosen are trained. All others wait in the dense model with the values that they had when they went,
and return with these (CHEX, CVPR 2022).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from .allocation import Count, Grain, allocate, structure_of, widths_of_groups
from .coupling import ChannelGroup
from .criteria import CRITERIA, Filters
from .narrow import narrow
from .surgery import Kept, kept_positions, transfer, widths_of


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
    """A dense model, of which a narrower copy is trained."""

    def __init__(self, dense: nn.Module, groups: Sequence[ChannelGroup], count: Count, recipe: ConcurrentRecipe):
        self.dense, self.groups, self.count, self.recipe = dense, groups, count, recipe
        self.kept: dict[str, Kept] = {}
        self.coverage: dict[str, float] = {}

    def choose(self, trained: nn.Module, epoch: int) -> nn.Module:
        """Take back what ``trained`` has learned, choose channels again, and return the model to train from now on."""
        give_back(trained, self.dense, self.kept)
        random = np.random.default_rng([self.recipe.seed, epoch])
        widths = allocate(widths_of_groups(self.groups, self.dense, self.recipe.grain), self.count, self.recipe.most)
        chosen = {group.name: self._choose(group, widths[group.name], epoch, random) for group in self.groups}
        self.kept = kept_positions(self.dense, self.groups, chosen)
        return narrow_copy(self.dense, self.kept)

    def _choose(self, group: ChannelGroup, keep: int, epoch: int, random: np.random.Generator) -> np.ndarray:
        structure = structure_of(group, self.dense)
        filters = Filters(tuple(group.kernels(self.dense)), structure)
        chosen = CRITERIA[self.recipe.criterion](filters, keep, random)
        gone = np.setdiff1d(np.arange(group.size), chosen)
        whole = structure.units.shape[1] * (int(structure.cells.max()) + 1)
        back = int(self.recipe.regrown_at(epoch) * len(gone)) if whole == 1 else 0
        return np.sort(np.concatenate([chosen, random.choice(gone, back, replace=False)])).astype(np.int64)


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
