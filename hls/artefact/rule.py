"""What a diffusers scheduler does with a model's outputs, as numbers: recorded when a model is quantized, compared when it runs.

A scheduler's class and configuration say what it should do; releases of diffusers change what it does with them. So a model that
is quantized for a schedule keeps the schedule's *response*: what becomes of a sample whose predicted output is a fixed part of
it, step by step. torch and diffusers are imported by those who call, not here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ..common.explained import explained
from ..common.limits import MOST_STEPS
from ..common.schema import Length, Matches
from .scheduler_config import takes_variance

AMPLITUDE = 1e-3  # of the first sample, in units of the first step's noise
OUTPUT_PART = 0.5  # of the scaled sample, that stands for the model's output
TOLERANCE = 1e-3  # of the larger of a value and 1: float32 arithmetic over a whole schedule


@dataclass(frozen=True)
class Rule:
    """What ``quantization["rule"]`` holds on disk: the release of diffusers, and the response [evaluations] of its scheduler."""

    diffusers: Annotated[str, Matches(r"[\w.+-]{1,40}")]
    response: Annotated[tuple[float, ...], Length(1, MOST_STEPS)]


def rule_of(scheduler: Any, steps: int) -> dict[str, Any]:
    """What goes to ``quantization["rule"]``: diffusers' version and the response [evaluations] of ``scheduler``, a diffusers
    scheduler, to ``steps`` steps. The scheduler itself is left as it is."""
    import diffusers

    return {"diffusers": diffusers.__version__, "response": response(scheduler, steps)}


def check_rule(quantization: Mapping[str, Any], scheduler: Any) -> None:
    """ValueError where a diffusers scheduler cannot run the schedule, takes other timesteps, or does something else in a step,
    than when the model was quantized. A model that was quantized before rules were recorded passes where the schedule runs."""
    import diffusers

    rule, name = quantization.get("rule"), f"{type(scheduler).__name__} of diffusers {diffusers.__version__}"
    with explained(
        f"{name} does not run the model's schedule", "install another diffusers, or quantize the model again"
    ):
        found = response(scheduler, quantization["steps"])
    if rule is None:
        return
    expected = rule["response"]
    same = len(found) == len(expected) and all(
        abs(a - b) <= TOLERANCE * max(abs(b), 1.0) for a, b in zip(found, expected, strict=True)
    )
    if not same:
        raise ValueError(
            f"{name} does not step as that of {rule['diffusers']}, for which the model is quantized; install "
            f"diffusers=={rule['diffusers']}, or quantize the model again"
        )


def response(scheduler: Any, steps: int) -> list[float]:
    """A sample's values after each of a schedule's ``steps``, in units of its first one's amplitude; without the noise that steps
    add, and without clipping, which that noise would meet."""
    import torch

    unclipped = {name: False for name in ("clip_sample", "thresholding") if name in scheduler.config}
    fresh = type(scheduler).from_config(scheduler.config, **unclipped)
    fresh.set_timesteps(steps)
    generators = {"generator": [torch.Generator(), torch.Generator()]}  # the same noise for both samples: it cancels
    takes_noise = "generator" in inspect.signature(fresh.step).parameters
    learned = takes_variance(type(fresh).__name__, fresh.config)
    # in float64, for the noise that cancels is a thousand times larger
    sample = torch.tensor([0.0, AMPLITUDE], dtype=torch.float64).reshape(2, 1, 1, 1) * float(fresh.init_noise_sigma)
    values = []
    for timestep in fresh.timesteps:
        for generator in generators["generator"]:
            generator.manual_seed(0)
        output = OUTPUT_PART * fresh.scale_model_input(sample, timestep)
        output = torch.cat([output, torch.zeros_like(output)], dim=1) if learned else output
        sample = fresh.step(output, timestep, sample, **(generators if takes_noise else {})).prev_sample
        values.append(float(sample[1] - sample[0]) / AMPLITUDE)
    return values
