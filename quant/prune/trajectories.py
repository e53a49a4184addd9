"""What a pruned model learns from where there is no data: the denoising runs of the model that it was cut from."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from ...hls.artefact.scheduler_config import takes_variance
from ...hls.common.files import replacing_file
from ..common.randomness import generator_of
from ..common.trainer import best_device

RECORDED = {"samples", "timesteps", "rows", "outputs"}


@dataclass(frozen=True)
class Examples:
    """Inputs of a model in denoising runs: ``samples`` [N, ...], ``timesteps`` [N], and in ``rows`` int [N] whose arguments each
    sample had, of all in ``arguments`` [R, ...] by their names; ``outputs`` [N, ...] of the model that ran."""

    samples: torch.Tensor
    timesteps: torch.Tensor
    rows: torch.Tensor
    outputs: torch.Tensor
    arguments: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.samples)

    def draw(
        self, picked: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Any], torch.Tensor]:
        """Keyword arguments of a forward pass of these examples, and what the model said."""
        return self.inputs(picked), self.outputs[picked].float()

    def inputs(self, picked: torch.Tensor) -> dict[str, Any]:
        """Keyword arguments of a forward pass of these examples."""
        rows = self.rows[picked]
        named = {name: values[rows] for name, values in self.arguments.items()}
        return {"sample": self.samples[picked].float(), "timestep": self.timesteps[picked], **named}


@dataclass(frozen=True)
class Runs:
    """Denoising runs to record: arguments [R, ...] of each by name, how ``scheduler`` steps, and what is made of the outputs of a
    run's ``branches`` rows (guided ones first) before it does."""

    arguments: Mapping[str, torch.Tensor]
    count: int
    branches: int
    guide: Callable[[torch.Tensor], torch.Tensor]
    make_scheduler: Callable[[], Any]
    sample_shape: tuple[int, ...]
    seed: int = 0

    def example(self) -> dict[str, Any]:
        """Keyword arguments of a forward pass of one sample, as large as those of the runs."""
        named = {name: values[:1] for name, values in self.arguments.items()}
        return {"sample": torch.zeros((1, *self.sample_shape)), "timestep": torch.zeros(1, dtype=torch.long), **named}


@torch.no_grad()
def record(model: nn.Module, runs: Runs, folder: Path, batch: int = 8) -> Examples:
    """Run them in float, and keep every input and output; finished batches in ``folder`` are not run again."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(best_device())
    parts = []
    starts = range(0, runs.count, batch)
    with tqdm(total=runs.count, desc="record the float model", unit="run") as progress:
        for first in starts:
            path = folder / f"{first:06d}.safetensors"
            indices = torch.arange(first, min(first + batch, runs.count))
            if not path.is_file():
                tensors = _run(model, runs, indices)
                with replacing_file(path) as temporary:
                    save_file(tensors, temporary)
            parts.append(_read(path, len(indices)))
            progress.update(len(indices))
    model.cpu()
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Examples(**joined, arguments=runs.arguments)


def _read(path: Path, runs: int) -> dict[str, torch.Tensor]:
    """The examples of so many runs; ValueError for a file that has not them."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); remove it, and it is recorded again") from error
    sizes = {len(value) for value in tensors.values()}
    if set(tensors) != RECORDED or len(sizes) != 1 or sizes.pop() % runs:
        raise ValueError(f"{path} does not have the examples of {runs} runs; remove it, and it is recorded again")
    return tensors


def _check_finite(output: torch.Tensor, timestep: torch.Tensor) -> None:
    if not output.isfinite().all():
        raise ValueError(
            f"the model's outputs at timestep {float(timestep):g} are not finite; nothing can be learned from it"
        )


def _halved(values: torch.Tensor) -> torch.Tensor:
    """In half precision, where it has values as large."""
    half = values.half()
    return half if half.isfinite().all() else values.float()


def _run(model: nn.Module, runs: Runs, indices: torch.Tensor) -> dict[str, torch.Tensor]:
    """The examples of runs ``indices``; row ``i + b * count`` has the arguments of branch b of run i."""
    scheduler = runs.make_scheduler()
    generators = [generator_of(runs.seed, int(index)) for index in indices]
    draw = functools.partial(torch.randn, runs.sample_shape)
    sample = torch.stack([draw(generator=generator) for generator in generators]) * scheduler.init_noise_sigma
    rows = torch.cat([indices + branch * runs.count for branch in range(runs.branches)])
    named = {name: values[rows] for name, values in runs.arguments.items()}
    drawn = "generator" in inspect.signature(scheduler.step).parameters
    randomness = {"generator": generators} if drawn else {}
    found: dict[str, list[torch.Tensor]] = {"samples": [], "timesteps": [], "rows": [], "outputs": []}
    for timestep in scheduler.timesteps:
        asked = torch.cat([scheduler.scale_model_input(sample, timestep)] * runs.branches)
        times = timestep.expand(len(asked))
        device = next(model.parameters()).device
        moved = {name: value.to(device) for name, value in named.items()}
        output = model(asked.to(device), times.to(device), **moved).sample.cpu()
        _check_finite(output, timestep)
        for name, value in (
            ("samples", _halved(asked)),
            ("timesteps", times),
            ("rows", rows),
            ("outputs", _halved(output)),
        ):
            found[name].append(value.clone())
        guided = runs.guide(output)
        if not takes_variance(type(scheduler).__name__, scheduler.config):
            guided = guided[:, : sample.shape[1]]
        sample = scheduler.step(guided, timestep, sample, **randomness).prev_sample
    return {name: torch.cat(values) for name, values in found.items()}
