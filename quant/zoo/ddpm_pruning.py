"""The bundled model, pruned while it is trained from scratch (REPrune, AAAI 2024, algorithm 2)."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, UNet2DModel

from ...hls.common.files import replacing_file
from ..prune.allocation import Grain, allocate, counter, widths_of_groups
from ..prune.concurrent import ConcurrentPruning, ConcurrentRecipe
from ..prune.coupling import channel_groups
from ..prune.macs import macs
from ..prune.narrow import adopt
from .ddpm import DDPMRecipe, NoisyImages, build_scheduler, build_unet, trained

INPUTS = {"sample": torch.zeros(1, 1, 28, 28), "timestep": torch.zeros(1).long(), "class_labels": torch.zeros(1).long()}


@dataclass(frozen=True)
class PrunedDDPMRecipe(DDPMRecipe):
    """How a model is pruned while it is trained: ``macs`` of the multiplications are left in the end. Channels are chosen every
    ``interval`` steps up to ``last_pruning``, then the structure stays. ValueError for steps that do not come out."""

    macs: float = 0.56
    criterion: str = "reprune"
    interval: int = 1_000
    last_pruning: int = 8_000
    grain: Grain = Grain()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.macs < 1:
            raise ValueError(f"found macs {self.macs}, expected the share of multiplications to keep, between 0 and 1")
        if self.interval < 1 or self.last_pruning < self.interval or self.last_pruning % self.interval:
            raise ValueError(
                f"found the last choice at step {self.last_pruning}, expected a multiple of {self.interval} steps"
            )
        if self.last_pruning >= self.steps:
            raise ValueError(
                f"found the last choice at step {self.last_pruning}, expected one before step {self.steps}"
            )

    @property
    def choices(self) -> int:
        """How many times channels are chosen; there is one phase of training more."""
        return self.last_pruning // self.interval

    def phase(self, index: int) -> DDPMRecipe:
        """The training between two choices, with the learning rate at its plateau; the last phase has all steps that are left."""
        whole = DDPMRecipe(**{field.name: getattr(self, field.name) for field in fields(DDPMRecipe)})
        if index == self.choices:
            return replace(whole, steps=self.steps - self.last_pruning, seed=self.seed + index)
        return replace(whole, steps=self.interval, decay_steps=1, seed=self.seed + index)


def train_pruned_ddpm(recipe: PrunedDDPMRecipe, out: Path, save_every: int = 500) -> dict[str, Any]:
    """Prune while training from scratch, and write a diffusers folder to ``out``; an interrupted call goes on there. Returns what
    ``out/pruning.json`` says. ValueError, before any work, for a share of the multiplications that cannot be."""
    torch.manual_seed(recipe.seed)
    dense = build_unet(recipe.channels)
    dense_macs = macs(dense, INPUTS)
    pruning = _pruning(dense, recipe, int(recipe.macs * dense_macs))
    data = NoisyImages.load(recipe.label_dropout)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "resume.safetensors"
    for index in range(pruning.resume(checkpoint, asdict(recipe)), recipe.choices + 1):
        if index:
            pruning.choose(index)
        part = out / f"phase-{index}"
        trained(pruning.model, recipe.phase(index), data, part, save_every)
        pruning.save(checkpoint, index + 1, asdict(recipe))
        shutil.rmtree(part)
    model = adopt(pruning.model)
    DDPMPipeline(model, build_scheduler()).save_pretrained(out)
    left = macs(model, INPUTS)
    multiplications = {"dense": dense_macs, "pruned": left, "share": left / dense_macs}
    report = {"multiplications": multiplications, "recipe": asdict(recipe)}
    with replacing_file(out / "pruning.json") as temporary:
        Path(temporary).write_text(json.dumps(report, indent=1) + "\n")
    return report


def _pruning(dense: UNet2DModel, recipe: PrunedDDPMRecipe, most: int) -> ConcurrentPruning:
    groups = channel_groups(dense, INPUTS)
    count = counter(dense, groups, INPUTS)
    allocate(widths_of_groups(groups, dense, recipe.grain), count, most)  # refuses what cannot be, before any training
    schedule = ConcurrentRecipe(
        most, interval=1, last_epoch=recipe.choices, criterion=recipe.criterion, grain=recipe.grain, seed=recipe.seed
    )
    return ConcurrentPruning(dense, groups, count, schedule)
