"""Step-wise post-training quantization: run a few denoising trajectories and choose every tensor's scale per step group.

The traced graph runs in PyTorch (:mod:`.network`). Two passes over the trajectories find ranges and choose clipping thresholds;
the few tensors that disturb the model's output most get codes in two parts (:mod:`.fine_parts`); the last pass corrects biases.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from brevitas.graph.calibrate import calibration_mode
from tqdm import tqdm

from ...hls.artefact.scheduler_config import takes_variance
from ..common.options import Options
from ..trace.tracing import FloatModel
from .fine_parts import can_be_fine
from .network import CALIBRATE, FLOAT, QUANTIZED, QuantizedNetwork
from .quantizers import RANGE, stepwise_scaling

RANKING_STEPS, RANKING_SAMPLES = 8, 8


@dataclass(frozen=True)
class Conditions:
    """What the trajectories are of: ``labels`` int [N], rows of conditional tables, and ``context`` [N, tokens, channels].

    With classifier-free guidance (Ho & Salimans 2022) every sample has two branches; ``unguided`` are the labels and the
    context of the other ones, and ``guidance`` is the scale: unguided + guidance * (guided - unguided).
    """

    labels: torch.Tensor
    context: torch.Tensor | None = None
    guidance: float | None = None
    unguided: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def branches(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Labels [B] and contexts [B, ...] of all that the model computes; B is N or 2 N."""
        if self.unguided is None:
            return self.labels, self.context
        labels, context = self.unguided
        both = None if self.context is None or context is None else torch.cat([self.context, context])
        return torch.cat([self.labels, labels]), both


@dataclass(frozen=True)
class Trajectories:
    """Model inputs of a few denoising runs: ``samples[step]`` [B, ...], their labels [B] and contexts [B, ...]."""

    samples: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    context: torch.Tensor | None = None

    def run(self, quantized: QuantizedNetwork, step: int, count: int | None = None) -> torch.Tensor:
        """The model's output for the first ``count`` samples of a step."""
        context = None if self.context is None else self.context[:count]
        return quantized(self.samples[step][:count], step, self.labels[:count], context)


def calibrate(
    model: FloatModel, scheduler, options: Options, conditions: Conditions | None = None
) -> tuple[QuantizedNetwork, Trajectories]:
    """Quantize ``model`` for the schedule that the diffusers ``scheduler`` has been set to.

    ``conditions`` (default: all labels in turn, no guidance). Returns the calibrated model, in mode ``quantized``, and the float
    trajectories it was calibrated on.
    """
    if conditions is None:
        conditions = Conditions(torch.arange(options.trajectories) % model.graph.labels)
    quantized = QuantizedNetwork(model, options)
    with torch.no_grad():
        trajectories = _collect_ranges(quantized, scheduler, options, conditions)
        if options.norm:
            _search_thresholds(quantized, trajectories)
        if options.fine:
            _make_fine(quantized, trajectories, options.fine)
        quantized.mode = QUANTIZED
        if options.correct_biases:
            _correct_biases(quantized, trajectories)
    return quantized, trajectories


def progress(items: Any, what: str, unit: str) -> Any:
    """``items``, with a bar of its own that says what calibration does with them."""
    return tqdm(items, desc=f"calibrate: {what}", unit=unit)


def _collect_ranges(quantized: QuantizedNetwork, scheduler, options: Options, conditions: Conditions) -> Trajectories:
    """Denoise in float from noise, watched by all quantizers."""
    generator = torch.Generator().manual_seed(options.seed)
    sample = torch.randn((len(conditions.labels), *quantized.graph.sample_shape), generator=generator)
    sample = sample * scheduler.init_noise_sigma
    labels, context = conditions.branches()
    samples: list[torch.Tensor] = []
    quantized.mode, quantized.calibration.phase = CALIBRATE, RANGE
    with calibration_mode(quantized):
        for step, timestep in enumerate(progress(scheduler.timesteps, "find ranges", "step")):
            asked = scheduler.scale_model_input(sample, timestep)
            samples.append(torch.cat([asked, asked]) if conditions.unguided else asked)
            output = _guided(quantized(samples[-1], step, labels, context), conditions)
            quantized.check_ranges(step, float(timestep))
            if not takes_variance(type(scheduler).__name__, scheduler.config):
                output = output[:, : sample.shape[1]]  # the rest is a variance that this scheduler does not use
            randomness = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
            sample = scheduler.step(output, timestep, sample, **randomness).prev_sample
    quantized.regroup()
    return Trajectories(tuple(samples), labels, context)


def _guided(output: torch.Tensor, conditions: Conditions) -> torch.Tensor:
    if conditions.unguided is None or conditions.guidance is None:
        return output
    guided, unguided = output.chunk(2)
    return unguided + conditions.guidance * (guided - unguided)


def _search_thresholds(quantized: QuantizedNetwork, trajectories: Trajectories) -> None:
    quantized.mode = CALIBRATE
    with calibration_mode(quantized):
        for step in progress(range(len(trajectories.samples)), "choose scales", "step"):
            trajectories.run(quantized, step)
    for quantizer in quantized.codes.values():
        stepwise_scaling(quantizer).choose()  # type: ignore[arg-type]


def _make_fine(quantized: QuantizedNetwork, trajectories: Trajectories, count: int) -> None:
    """Two-part codes for the tensors that disturb the output most: by its mean absolute error when only they are quantized.

    Steps of the schedule's first half decide: an error grows most from there (measured, see the bundled model's card).
    """
    quantized.mode = FLOAT
    half = (len(trajectories.samples) + 1) // 2
    steps = sorted({half * index // RANKING_STEPS for index in range(RANKING_STEPS)})
    exact = {step: trajectories.run(quantized, step, RANKING_SAMPLES) for step in steps}
    disturbance = {}
    names = [name for name in quantized.graph.tensors if can_be_fine(quantized.graph, name)]
    for quantized.single in progress(names, "rank tensors by the error of their codes", "tensor"):
        found = {step: trajectories.run(quantized, step, RANKING_SAMPLES) for step in steps}
        errors = [(found[step] - exact[step]).abs().mean().item() for step in steps]
        disturbance[quantized.single] = sum(errors)
    quantized.single = None
    for name in sorted(names, key=lambda name: -disturbance[name])[:count]:
        quantized.make_fine(name)


@dataclass
class _BiasCorrection:
    """Watches convolutions: first in float, then quantized, where each is shifted to its float mean at once."""

    means: dict[str, torch.Tensor] = field(default_factory=dict)
    errors: dict[str, list[torch.Tensor]] = field(default_factory=dict)

    def remember(self, name: str, y: torch.Tensor) -> torch.Tensor:
        self.means[name] = y.mean(dim=(0, 2, 3))
        return y

    def correct(self, name: str, y: torch.Tensor) -> torch.Tensor:
        error = self.means[name] - y.mean(dim=(0, 2, 3))
        self.errors.setdefault(name, []).append(error)
        return y + error[:, None, None]


def _correct_biases(quantized: QuantizedNetwork, trajectories: Trajectories) -> None:
    """Shift every convolution so that its mean per channel and step group is the float one (Nagel et al. 2019, sec. 4.2).

    Convolutions are corrected in the order of execution, each with all earlier ones corrected already.
    """
    corrections = [_BiasCorrection() for _ in range(quantized.graph.groups)]
    for step in progress(range(quantized.graph.steps), "correct biases", "step"):
        correction = corrections[quantized.graph.group_of_step[step]]
        for quantized.mode, quantized.on_convolution in ((FLOAT, correction.remember), (QUANTIZED, correction.correct)):
            trajectories.run(quantized, step)
    for group, correction in enumerate(corrections):
        for name, errors in correction.errors.items():
            quantized.correction[name][group] = torch.stack(errors).mean(dim=0)
    quantized.on_convolution = None
