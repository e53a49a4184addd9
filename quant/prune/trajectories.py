"""What a pruned model learns from where there is no data: the denoising runs of the model that it was cut from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from ...hls.common.files import replacing_file
from ..common.randomness import generator_of
from ..common.trainer import best_device


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
            parts.append(load_file(path))
            progress.update(len(indices))
    model.cpu()
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Examples(**joined, arguments=runs.arguments)


def _run(model: nn.Module, runs: Runs, indices: torch.Tensor) -> dict[str, torch.Tensor]:
    """The examples of runs ``indices``; row ``i + b * count`` has the arguments of branch b of run i."""
    scheduler = runs.make_scheduler()
    generators = [generator_of(runs.seed, int(index)) for index in indices]
    draw = functools.partial(torch.randn, runs.sample_shape)
    sample = torch.stack([draw(generator=generator) for generator in generators]) * scheduler.init_noise_sigma
    rows = torch.cat([indices + branch * runs.count for branch in range(runs.branches)])
    named = {name: values[rows] for name, values in runs.arguments.items()}
    found: dict[str, list[torch.Tensor]] = {"samples": [], "timesteps": [], "rows": [], "outputs": []}
    for timestep in scheduler.timesteps:
        asked = torch.cat([scheduler.scale_model_input(sample, timestep)] * runs.branches)
        times = timestep.expand(len(asked))
        device = next(model.parameters()).device
        moved = {name: value.to(device) for name, value in named.items()}
        output = model(asked.to(device), times.to(device), **moved).sample.cpu()
        for name, value in (
            ("samples", asked.half()),
            ("timesteps", times),
            ("rows", rows),
            ("outputs", output.half()),
        ):
            found[name].append(value.clone())
        sample = scheduler.step(runs.guide(output)[:, : sample.shape[1]], timestep, sample).prev_sample
    return {name: torch.cat(values) for name, values in found.items()}
