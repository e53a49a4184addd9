"""Quantize a diffusers pipeline for a schedule: trace, calibrate, lower, save."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ModelMixin
from torch import nn

from ..hls.artefact.folder import COMPONENTS
from ..hls.artefact.model import Companions, QuantizedModel, save
from .calibrate.calibration import calibrate
from .calibrate.fidelity import warn_of_coarse_codes
from .calibrate.fine_parts import add_fine_ends
from .calibrate.lower import IntegerModel, check_lowering, lower
from .common.options import Options, Reading, Schedule
from .pipeline.conditions import check_context, choose_labels, conditions_of, guidance_for
from .pipeline.guidance_embedding import GUIDANCE, embedded_size, with_guidance
from .pipeline.in_memory import contexts_in_float32, in_float32
from .pipeline.output import check_place
from .pipeline.pipelines import Source, check_finite, encode_prompts, load_source
from .pipeline.schedule import check_class, scheduler_for, with_eta
from .pipeline.size_embedding import PIXELS, pixels_per_latent, takes_sizes, with_sizes
from .pipeline.supported import check_config, check_variance
from .prune.narrow import stock_kind
from .trace.tracing import Interface, trace

EXAMPLES = 16  # prompts whose contexts are kept
PROMPTS = (  # to calibrate with where none are given
    "a red apple on a white table",
    "a photo of a cat",
    "a city street at night in the rain",
    "a smiling woman with a hat",
    "mountains and a lake",
    "a green bird in a tree",
    "a bowl of soup",
    "a blue car",
    "portrait of an old man",
    "a dog running on a beach",
    "an astronaut",
    "yellow flowers in a vase",
    "a castle on a hill",
    "a pair of shoes",
    "the moon over the sea",
    "a child with a balloon",
)


def quantize(
    model: str | Path,
    out: Path,
    schedule: Schedule,
    options: Options,
    labels: Sequence[int] | None = None,
    prompts: Sequence[str] | None = None,
    reading: Reading | None = None,
    overwrite: bool = False,
) -> QuantizedModel:
    """Quantize the denoiser of a diffusers pipeline (folder or hub name); write it to ``out`` with the pipeline's other parts.

    ``labels``: the classes to quantize for (default: all); ``prompts`` to calibrate with; ``reading``: how the folder is read;
    ``overwrite``: replace a quantized model that is in ``out``. Raises, before prompts are encoded, OSError for an output that
    cannot be written and ValueError for what does not fit the model; before calibration UnsupportedOperator for operators and
    sizes that the hardware does not have, ValueError for too large tables; during it ValueError for numbers that are not
    finite; after it UnsupportedOperator for numbers that the integers of the contract do not hold.
    """
    reading = reading or Reading()
    check_place(out, overwrite)
    source = load_source(model, reading.variant, reading.sample_size)
    if not reading.force_scheduler:
        check_class(source.scheduler_class, schedule)
    pixels = pixels_per_latent(source.folder) if takes_sizes(source.denoiser) else PIXELS
    plan = _Plan.of(source.denoiser, source.scheduler, schedule, options, labels, pixels, source.pipeline)
    context = None
    if source.interface.context:
        given = list(prompts or PROMPTS)
        chosen = [given[index % len(given)] for index in range(options.trajectories)]
        context = encode_prompts(source, chosen, check=prompts is not None)
        check_context(source.denoiser, context)
    elif prompts:
        raise ValueError(f"{model} takes no prompts; leave them out")
    quantized = _quantize(plan, context, source.component)
    save(quantized, out, Companions(source.folder, _companions(source), source.variant))
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
    context: tuple[torch.Tensor | np.ndarray, torch.Tensor | np.ndarray] | None = None,
    component: str = "unet",
) -> QuantizedModel:
    """Quantize a model in memory; see :func:`quantize`.

    ``context``: of a model that attends to one, [N, tokens, channels] of N trajectories, and those of the unguided branch, as
    tensors or arrays. A model of other floats than float32 is quantized as a copy in float32; the one given stays as it is.
    """
    if component not in COMPONENTS:
        raise ValueError(
            f"found component {component!r}, expected {' or '.join(COMPONENTS)}: the denoiser's name in a pipeline"
        )
    if not isinstance(denoiser, ModelMixin):
        raise ValueError(
            f"found a {type(denoiser).__name__}, expected a denoiser of diffusers, such as the unet or transformer of a pipeline"
        )
    check_config(_config_of(denoiser), type(denoiser).__name__)
    check_finite(denoiser)
    denoiser, tensors = in_float32(denoiser), contexts_in_float32(context)
    if "_class_name" in scheduler_config:
        check_class(scheduler_config["_class_name"], schedule)
    check_context(denoiser, tensors)
    return _quantize(_Plan.of(denoiser, scheduler_config, schedule, options, labels), tensors, component)


def _config_of(denoiser: nn.Module) -> dict[str, Any]:
    """With its class, as on disk."""
    return {**denoiser.config, "_class_name": type(denoiser).__name__}  # type: ignore[dict-item]


@dataclass(frozen=True)
class _Plan:
    """All that is decided before prompts are encoded. ``denoiser`` is the model as it will be traced, ``swallowed`` which
    arguments of its forward it always has: the embedding of ``guidance`` as ``timestep_cond``, or ``added_cond_kwargs``."""

    denoiser: nn.Module
    schedule: Schedule
    options: Options
    scheduler: Any
    rule: dict[str, Any]
    labels: list[int]
    guidance: float | None
    swallowed: dict[str, Any]

    @staticmethod
    def of(
        denoiser: nn.Module,
        scheduler_config: dict[str, Any],
        schedule: Schedule,
        options: Options,
        labels: Sequence[int] | None,
        pixels: int = PIXELS,
        pipeline: str | None = None,
    ) -> _Plan:
        """ValueError, in one line, for what cannot be."""
        scheduler, rule = scheduler_for(scheduler_config, schedule)
        check_variance(_config_of(denoiser), type(scheduler).__name__, scheduler.config)
        chosen = choose_labels(denoiser, labels)
        if embedded_size(denoiser) is not None:
            scale = GUIDANCE if options.guidance is None else options.guidance
            folded, embedding = with_guidance(denoiser, scale)
            return _Plan(folded, schedule, options, scheduler, rule, chosen, scale, {"timestep_cond": embedding})
        swallowed: dict[str, Any] = {}
        if takes_sizes(denoiser):
            _, height, width = sample_shape_of(denoiser)
            denoiser, sizes = with_sizes(denoiser, height, width, pixels)
            swallowed = {"added_cond_kwargs": sizes}
        guidance = guidance_for(denoiser, options, chosen, pipeline)
        return _Plan(denoiser, schedule, options, scheduler, rule, chosen, guidance, swallowed)

    @property
    def timesteps(self) -> list[float]:
        return [_plain(timestep) for timestep in self.scheduler.timesteps.tolist()]

    @property
    def described(self) -> dict[str, Any]:
        """``quantization_config`` of the quantized model."""
        return {
            "quant_method": "ditto_zynq",
            "scheduler": self.schedule.scheduler,
            "eta": self.schedule.eta,
            "steps": self.schedule.steps,
            "timesteps": self.timesteps,
            "rule": self.rule,
            "groups": self.schedule.groups,
            "labels": self.labels,
            "guidance": self.guidance,
            **self.swallowed,
            "weight_bits": 8,
            "activation_bits": 8,
            "calibration": asdict(self.options),
        }


def _quantize(plan: _Plan, context: tuple[torch.Tensor, torch.Tensor] | None, component: str) -> QuantizedModel:
    denoiser, timesteps = plan.denoiser, plan.timesteps
    context = context if Interface.of(denoiser).context else None  # some U-Nets take one and ignore it
    tokens = None if context is None else context[0].shape[1]
    group_of_step = plan.schedule.group_of_step(len(timesteps))
    traced = trace(denoiser, sample_shape_of(denoiser), timesteps, group_of_step, plan.labels, tokens)
    check_lowering(traced.graph)
    guidance = None if "timestep_cond" in plan.swallowed else plan.guidance
    options = plan.options
    conditions = conditions_of(options.trajectories, denoiser, plan.labels, context, guidance, options.prompt_weight)
    scheduler = with_eta(plan.scheduler, plan.schedule)
    calibrated, trajectories = calibrate(add_fine_ends(traced), scheduler, options, conditions)
    warn_of_coarse_codes(calibrated, trajectories)
    integer = lower(calibrated)
    described = json.loads(denoiser.to_json_string())  # type: ignore[operator]
    config = {key: value for key, value in described.items() if key != "_name_or_path"}
    config["_class_name"] = stock_kind(denoiser).__name__  # which its drop-in stands for
    return QuantizedModel(
        integer.graph,
        integer.tables,
        integer.scales,
        config,
        json.loads(plan.scheduler.to_json_string()),
        plan.described,
        component=component,
        examples=None if context is None else _examples(integer, context),
    )


def _examples(integer: IntegerModel, context: tuple[torch.Tensor, torch.Tensor]) -> np.ndarray:
    """Codes of the first contexts, and of the unguided branch's."""
    graph = integer.graph
    assert graph.context is not None
    values = torch.cat([context[0][:EXAMPLES], context[1][:1]]).double().numpy()
    return graph.encode_context(values, integer.scales[graph.context][0])[:, :, 0]


def sample_shape_of(denoiser: nn.Module) -> tuple[int, ...]:
    """(channels, height, width), of a video model (channels, frames, height, width), by its configuration."""
    config: Any = denoiser.config
    height, width = (config.sample_size,) * 2 if isinstance(config.sample_size, int) else config.sample_size
    frames = getattr(config, "video_length", None)
    return (config.in_channels, *([frames] if frames else []), height, width)


def _plain(timestep: float) -> float | int:
    return int(timestep) if float(timestep).is_integer() else timestep
