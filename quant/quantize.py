"""Quantize a diffusers pipeline for a schedule: trace, calibrate, lower, save."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import nn

from ..hls.arithmetic import CODE_RANGE
from ..hls.artefact import Companions, QuantizedModel, check_output, save
from ..hls.rule import rule_of
from .calibrate import Conditions, Options, calibrate
from .fine_parts import add_fine_ends
from .lower import IntegerModel, lower
from .pipelines import Source, check_finite, encode_prompts, load_source
from .trace import Interface, known_labels, trace

SCHEDULERS = {
    "ddpm": diffusers.DDPMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "pndm": diffusers.PNDMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "dpm++": diffusers.DPMSolverMultistepScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
}
EXAMPLES = 16  # prompts whose contexts are kept
MOST_LABELS = 64  # that are quantized for without having been asked for
TEXT_GUIDANCE, CLASS_GUIDANCE = 7.5, 4.0  # what diffusers' pipelines take if they are not told
PROMPTS = (  # to calibrate with where none are given
    "a red apple on a white table", "a photo of a cat", "a city street at night in the rain", "a smiling woman with a hat",
    "mountains and a lake", "a green bird in a tree", "a bowl of soup", "a blue car",
    "portrait of an old man", "a dog running on a beach", "an astronaut", "yellow flowers in a vase",
    "a castle on a hill", "a pair of shoes", "the moon over the sea", "a child with a balloon",
)  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """What a model is quantized for. ``groups`` step groups have scales of their own; steps are cut into them evenly."""

    scheduler: str = "ddim"
    steps: int = 50
    eta: float = 0.0
    groups: int = 10

    def group_of_step(self, evaluations: int | None = None) -> list[int]:
        """Of every evaluation of the model; some schedulers take more than one a step."""
        count = evaluations or self.steps
        return [step * self.groups // count for step in range(count)]


def check_schedule(schedule: Schedule) -> None:
    """ValueError, in one line, for a schedule that cannot be."""
    if schedule.scheduler not in SCHEDULERS:
        raise ValueError(f"found scheduler {schedule.scheduler!r}, expected one of {', '.join(SCHEDULERS)}")
    if schedule.steps < 1:
        raise ValueError(f"found {schedule.steps} steps, expected at least 1")
    if not 1 <= schedule.groups <= schedule.steps:
        raise ValueError(f"found {schedule.groups} step groups, expected 1 to {schedule.steps} (the number of steps)")
    if schedule.eta and schedule.scheduler != "ddim":
        raise ValueError(f"eta belongs to the ddim scheduler; leave it out for {schedule.scheduler}")


def quantize(
    model: str | Path,
    out: Path,
    schedule: Schedule,
    options: Options,
    labels: Sequence[int] | None = None,
    prompts: Sequence[str] | None = None,
) -> QuantizedModel:
    """Quantize the denoiser of a diffusers pipeline (folder or hub name); write it to ``out`` with the pipeline's other parts.

    ``labels``: the classes to quantize for (default: all); ``prompts`` to calibrate with. Raises ValueError for what cannot be
    and UnsupportedOperator for a model that cannot be lowered, both before any calibration.
    """
    check_schedule(schedule)
    check_output(out)
    source = load_source(model)
    context = None
    if source.interface.context:
        given = list(prompts or PROMPTS)
        chosen = [given[index % len(given)] for index in range(options.trajectories)]
        context = encode_prompts(source, chosen, check=prompts is not None)
    elif prompts:
        raise ValueError(f"{model} takes no prompts; leave them out")
    quantized = quantize_denoiser(
        source.denoiser, source.scheduler, schedule, options, labels, context, source.component
    )
    save(quantized, out, Companions(source.folder, _companions(source)))
    return quantized


def _companions(source: Source) -> tuple[str, ...]:
    """The pipeline's other parts that have files: the host runs them."""
    others = [name for name in source.components if name not in (source.component, "scheduler")]
    return tuple(name for name in others if (source.folder / name).is_dir())


def quantize_denoiser(
    denoiser: nn.Module,
    scheduler_config: dict[str, Any],
    schedule: Schedule,
    options: Options,
    labels: Sequence[int] | None = None,
    context: tuple[torch.Tensor, torch.Tensor] | None = None,
    component: str = "unet",
) -> QuantizedModel:
    """Quantize a model in memory; see :func:`quantize`.

    ``context``: of a model that attends to one, [N, tokens, channels] for as many trajectories, and those of the unguided branch.
    """
    check_schedule(schedule)
    check_finite(denoiser)
    scheduler = SCHEDULERS[schedule.scheduler].from_config(scheduler_config)
    scheduler.set_timesteps(schedule.steps)
    timesteps = [_plain(timestep) for timestep in scheduler.timesteps.tolist()]
    if schedule.scheduler in ("ddpm", "ddim") and len(timesteps) != schedule.steps:
        raise ValueError(f"found {len(timesteps)} timesteps for {schedule.steps} steps; choose another number of steps")
    chosen = _labels(denoiser, labels)
    tokens = None if context is None else context[0].shape[1]
    group_of_step = schedule.group_of_step(len(timesteps))
    traced = trace(denoiser, sample_shape_of(denoiser), timesteps, group_of_step, chosen, tokens)
    conditions = _conditions(options, denoiser, chosen, context)
    calibrated, _ = calibrate(add_fine_ends(traced), _with_eta(scheduler, schedule), options, conditions)
    integer = lower(calibrated)
    quantization = {
        "quant_method": "ditto_zynq",
        "scheduler": schedule.scheduler,
        "eta": schedule.eta,
        "steps": schedule.steps,
        "timesteps": timesteps,
        "rule": rule_of(scheduler, schedule.steps),
        "groups": schedule.groups,
        "labels": chosen,
        "guidance": conditions.guidance,
        "weight_bits": 8,
        "activation_bits": 8,
        "calibration": asdict(options),
    }
    described = json.loads(denoiser.to_json_string())  # type: ignore[operator]
    config = {key: value for key, value in described.items() if key != "_name_or_path"}
    return QuantizedModel(
        integer.graph,
        integer.tables,
        integer.scales,
        config,
        json.loads(scheduler.to_json_string()),
        quantization,
        component=component,
        examples=None if context is None else _examples(integer, context),
    )


def _examples(integer: IntegerModel, context: tuple[torch.Tensor, torch.Tensor]) -> np.ndarray:
    """Codes of the first contexts, and of the unguided branch's."""
    assert integer.graph.context is not None
    values = torch.cat([context[0][:EXAMPLES], context[1][:1]]).double().numpy()
    return np.clip(np.rint(values / integer.scales[integer.graph.context][0]), *CODE_RANGE).astype(np.int8)


def sample_shape_of(denoiser: nn.Module) -> tuple[int, ...]:
    """(channels, height, width), of a video model (channels, frames, height, width), by its configuration."""
    config: Any = denoiser.config
    height, width = (config.sample_size,) * 2 if isinstance(config.sample_size, int) else config.sample_size
    frames = getattr(config, "video_length", None)
    return (config.in_channels, *([frames] if frames else []), height, width)


def _plain(timestep: float) -> float | int:
    return int(timestep) if float(timestep).is_integer() else timestep


def _labels(denoiser: nn.Module, labels: Sequence[int] | None) -> list[int]:
    """The classes to quantize for; every one has rows of its own in the tables of every step."""
    if not Interface.of(denoiser).labels:
        if labels:
            raise ValueError("the model has no class labels; leave them out")
        return [0]
    known = known_labels(denoiser.config)
    if labels is None:
        if known > MOST_LABELS:
            raise ValueError(
                f"the model has {known} labels, and each one quantized for takes memory in every step; choose some, and "
                f"{known - 1}, the null label of guidance, such as --labels 207,360,{known - 1}"
            )
        return list(range(known))
    wrong = [label for label in labels if not 0 <= label < known]
    if wrong or not labels:
        raise ValueError(f"found labels {list(labels)}, expected some of 0 to {known - 1}")
    return sorted(set(labels))


def _conditions(
    options: Options, denoiser: nn.Module, labels: list[int], context: tuple[torch.Tensor, torch.Tensor] | None
) -> Conditions:
    """What trajectories are of: the labels or contexts in turn, with guidance where there is something to guide away from."""
    if context is not None:
        none = torch.zeros(len(context[0]), dtype=torch.long)
        scale = TEXT_GUIDANCE if options.guidance is None else options.guidance
        return Conditions(none, context[0], scale, (none, context[1]))
    rows = torch.arange(options.trajectories) % len(labels)
    guidance = _class_guidance(denoiser, labels) if options.guidance is None else options.guidance
    if guidance is None:
        return Conditions(rows)
    null = len(labels) - 1  # diffusers' embeddings of classes end with the one that stands for none
    return Conditions(rows % max(null, 1), None, guidance, (torch.full_like(rows, null), None))


def _class_guidance(denoiser: nn.Module, labels: list[int]) -> float | None:
    """For a transformer that is quantized for more than its null label, as DiTPipeline runs it."""
    config: Any = denoiser.config
    is_transformer = getattr(config, "norm_type", None) == "ada_norm_zero"
    return CLASS_GUIDANCE if is_transformer and len(labels) > 1 and labels[-1] == config.num_embeds_ada_norm else None


def _with_eta(scheduler: Any, schedule: Schedule) -> Any:
    """The scheduler with ``eta`` bound, so that calibration trajectories are the ones that will be run."""
    if schedule.eta:
        bound = functools.partial(scheduler.step, eta=schedule.eta)
        functools.update_wrapper(bound, scheduler.step)
        bound.__signature__ = inspect.signature(scheduler.step)  # type: ignore[attr-defined]
        scheduler.step = bound
    return scheduler
