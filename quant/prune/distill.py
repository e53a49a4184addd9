"""Distillation: a pruned model learns to say what the model said that it was cut from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ..common.trainer import Draw, Recipe, Trainer, best_device, regression


@dataclass(frozen=True)
class DistillationRecipe(Recipe):
    """How a pruned model is mended. ``architecture`` and ``teacher`` tell runs apart, so that none goes on with another's."""

    steps: int = 3_000
    decay_steps: int = 1_000
    warmup_steps: int = 50
    batch: int = 32
    learning_rate: float = 5e-4
    ema: float = 0.998
    architecture: str = ""
    teacher: str = ""


def distill(
    student: nn.Module, recipe: DistillationRecipe, draw: Draw, count: int, out: Path, save_every: int = 100
) -> None:
    """Train ``student`` until the recipe's end, on ``count`` examples, to say what ``draw`` asks for.

    Interrupted, KeyboardInterrupt, the same call goes on from ``out/resume.safetensors``. The student ends with averaged weights.
    """

    student.to(best_device()).train()
    recipe = replace(recipe, batch=min(recipe.batch, count))
    Trainer(recipe, out, student, regression(student, draw), count).run(save_every)
    student.cpu().eval()
