"""A training run that can be interrupted: what step ``n`` sees depends on the seed and on ``n`` only.

So a run that was interrupted ends with the weights of one that was not (up to the thread count's effect on float sums).
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from ...hls.common.files import replacing_file
from .options import LARGEST_SEED, check_whole
from .randomness import generator_of


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. ``decay_steps`` is the tail in which the learning rate falls linearly to zero."""

    steps: int
    decay_steps: int
    warmup_steps: int = 300
    batch: int = 64
    learning_rate: float = 1e-3
    ema: float = 0.9995
    seed: int = 0

    def __post_init__(self) -> None:
        """ValueError for numbers that cannot be."""
        for name in ("steps", "decay_steps", "warmup_steps", "batch"):
            check_whole(name, getattr(self, name), 1)
        check_whole("seed", self.seed, 0, LARGEST_SEED)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate at a step: warm-up, plateau, linear decay; the plateau lets a run be prolonged without having known
        its length."""
        warmup = min(1.0, (step + 1) / self.warmup_steps)
        decay = min(1.0, (self.steps - step) / self.decay_steps)
        return self.learning_rate * warmup * decay


Loss = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
Draw = Callable[[torch.Tensor, torch.Generator], tuple[Mapping[str, Any], torch.Tensor]]
"""Inputs of the model, keyword arguments of its forward, and what it should say, for the examples of these numbers."""


def best_device() -> torch.device:
    """A GPU where there is one. Random numbers are drawn on the CPU in either case, so that they are equal."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def regression(model: nn.Module, draw: Draw) -> Loss:
    """The mean square error of what a denoiser says, on the device where it is."""

    def loss(picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        inputs, wanted = draw(picked, generator)
        device = next(model.parameters()).device
        moved = {name: value.to(device) for name, value in inputs.items()}
        return F.mse_loss(model(**moved).sample, wanted.to(device))

    return loss


class Trainer:
    """Trains a model where it is, with the moving average of its weights and its optimizer. ``step`` counts the steps done."""

    def __init__(self, recipe: Recipe, out: Path, model: nn.Module, loss: Loss, count: int):
        self.recipe, self.out, self.model, self.loss, self.count = recipe, out, model, loss, count
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4, betas=(0.9, 0.99))
        self.step, self.recent_loss = 0, 0.0
        out.mkdir(parents=True, exist_ok=True)
        self._resume()

    def run(self, save_every: int = 500) -> None:
        """Train to the end of the recipe, then give the model the averaged weights.

        Interrupted, it ends the step under way, saves it and raises KeyboardInterrupt.
        """
        with _Interruption() as interruption, self._progress() as progress:
            while self.step < self.recipe.steps:
                self._train_step()
                progress.update()
                progress.set_postfix(loss=f"{self.recent_loss:.4f}", refresh=False)
                if self.step % save_every == 0 or self.step == self.recipe.steps or interruption.requested:
                    self._save()
                if interruption.requested:
                    raise KeyboardInterrupt
        self.model.load_state_dict(self.average)

    def _progress(self) -> tqdm:
        return tqdm(total=self.recipe.steps, initial=self.step, desc="train", unit="step", mininterval=5)

    def _train_step(self) -> None:
        generator = generator_of(self.recipe.seed, self.step)
        loss = self.loss(batch_indices(self.step, self.recipe, self.count), generator)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate_at(self.step)
        self.optimizer.step()
        self._update_average(min(self.recipe.ema, (1 + self.step) / (10 + self.step)))
        self.step += 1
        self.recent_loss = 0.99 * self.recent_loss + 0.01 * loss.item() if self.recent_loss else loss.item()

    @torch.no_grad()
    def _update_average(self, decay: float) -> None:
        values = self.model.state_dict()
        for name, average in self.average.items():
            if average.is_floating_point():
                average.lerp_(values[name], 1 - decay)
            else:
                average.copy_(values[name])

    def _save(self) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.average.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
        metadata = {"step": str(self.step), "recipe": json.dumps(asdict(self.recipe))}
        copies = {
            name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
        }  # none shared
        with replacing_file(self.out / "resume.safetensors") as temporary:
            save_file(copies, temporary, metadata)
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": self.step, "loss": round(self.recent_loss, 5)}) + "\n")

    def _resume(self) -> None:
        """Go on from ``resume.safetensors`` if it is there; ValueError where another recipe wrote it."""
        path = self.out / "resume.safetensors"
        if not path.exists():
            return
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
            tensors = load_file(path)
            found, done = json.loads(metadata["recipe"]), int(metadata["step"])
        except (SafetensorError, TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is no checkpoint that can be read ({error}); remove it to begin anew") from error
        wanted = json.loads(json.dumps(asdict(self.recipe)))
        free = {"steps", "decay_steps"}  # a run may be prolonged
        changed = ", ".join(sorted(name for name in wanted if name not in free and found.get(name) != wanted[name]))
        if changed:
            raise ValueError(f"{path} was trained with another {changed}; use the same, or another output folder")
        self.model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
        for name, value in self.average.items():
            value.copy_(tensors[f"ema.{name}"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, index, field = name.split(".")
                state.setdefault(int(index), {})[field] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.step = done


class _Interruption:
    """Turns SIGINT and SIGTERM into a request, so that a training step is never left half done."""

    def __enter__(self) -> _Interruption:
        self.requested = False
        self.handlers = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _request(self, *_: object) -> None:
        self.requested = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


def batch_indices(step: int, recipe: Recipe, count: int) -> torch.Tensor:
    """The indices of one batch of the epoch's permutation; the last partial batch of an epoch is dropped."""
    epoch, position = divmod(step, count // recipe.batch)
    order = torch.randperm(count, generator=generator_of(recipe.seed, epoch, stride=7_919))
    return order[position * recipe.batch : (position + 1) * recipe.batch]


def run_convolutions_in_bfloat16(model: nn.Module) -> None:
    """Convolve in bfloat16, keep norms, attention and weights in float32: the fastest mix on a CPU (1.3x measured)."""

    def convolve(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        assert layer.bias is not None
        weight, bias = layer.weight.bfloat16(), layer.bias.bfloat16()
        return F.conv2d(x.bfloat16(), weight, bias, layer.stride, layer.padding).float()  # type: ignore[arg-type]

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.forward = convolve.__get__(layer)  # type: ignore[method-assign]
