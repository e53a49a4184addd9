"""Distillation: a pruned model learns to say what the model said that it was cut from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..common.trainer import Recipe, Trainer

Draw = Callable[[torch.Tensor, torch.Generator], tuple[Mapping[str, Any], torch.Tensor]]
"""Inputs of the model, keyword arguments of its forward, and what it should say, for the examples of these numbers."""


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

    def loss(picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        inputs, wanted = draw(picked, generator)
        return F.mse_loss(student(**inputs).sample, wanted)

    student.train()
    recipe = replace(recipe, batch=min(recipe.batch, count))
    Trainer(recipe, out, student, loss, count).run(save_every)
    student.eval()


def taught(teacher: nn.Module, draw: Callable[[torch.Tensor, torch.Generator], Mapping[str, Any]]) -> Draw:
    """Asks for what ``teacher`` says of the inputs that ``draw`` makes."""
    teacher.eval()

    def drawn(picked: torch.Tensor, generator: torch.Generator) -> tuple[Mapping[str, Any], torch.Tensor]:
        inputs = draw(picked, generator)
        with torch.no_grad():
            return inputs, teacher(**inputs).sample

    return drawn
