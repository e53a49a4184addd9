"""What a user chooses when quantizing, as validated numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import diffusers

from ...hls.common.limits import LARGEST_DIMENSION

SCHEDULERS = {
    "ddpm": diffusers.DDPMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "pndm": diffusers.PNDMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "dpm++": diffusers.DPMSolverMultistepScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
}
LARGEST_NORM = 16.0  # of clipping errors in float32
LARGEST_PROMPT_WEIGHT = 16.0
LARGEST_GUIDANCE = 1000.0
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Schedule:
    """What a model is quantized for: ``steps`` denoising steps of a ``scheduler``, in ``groups`` step groups with scales of
    their own; ``eta`` in [0, 1] is the noise of DDIM's steps. ValueError, in one line, for a schedule that cannot be."""

    scheduler: str = "ddim"
    steps: int = 50
    eta: float = 0.0
    groups: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.scheduler, str) or self.scheduler not in SCHEDULERS:
            raise ValueError(f"found scheduler {self.scheduler!r}, expected one of {', '.join(SCHEDULERS)}")
        check_whole("steps", self.steps, 1)
        check_number("eta", self.eta, 0, 1)
        if self.eta and self.scheduler != "ddim":
            raise ValueError(f"eta belongs to the ddim scheduler; leave it out for {self.scheduler}")
        check_whole("step groups", self.groups, 1)
        if self.groups > self.steps:
            raise ValueError(
                f"found {self.groups} step groups, expected 1 to {self.steps} (the number of steps); give fewer --groups"
            )

    def group_of_step(self, evaluations: int | None = None) -> list[int]:
        """The step group of every evaluation of the model (default: one a step; some schedulers take more), in groups of even
        sizes."""
        count = evaluations or self.steps
        return [step * self.groups // count for step in range(count)]


@dataclass(frozen=True)
class Options:
    """How a model is calibrated. ``norm``: exponent of the error that clipping thresholds minimise, 0 for the full range
    (absmax).

    ``fine``: how many tensors, of those that disturb the model's output most, get codes in two parts; all that can have them, if
    they are fewer. ``guidance``: the scale of classifier-free guidance in trajectories (default: that of diffusers' pipelines,
    where the model has prompts or a null label); up to 1 it is none, as in diffusers. ``prompt_weight``: how far every second
    trajectory's context is from that of the empty prompt, 1 for where the text encoder puts it: weighted prompts then find room
    in the codes. ValueError for numbers out of their ranges.
    """

    trajectories: int = 16
    norm: float = 2.4
    correct_biases: bool = True
    fine: int = 4
    seed: int = 0
    guidance: float | None = None
    prompt_weight: float = 1.5

    def __post_init__(self) -> None:
        check_whole("trajectories", self.trajectories, 1)
        check_number("norm", self.norm, 0, LARGEST_NORM)
        check_yes_or_no("correct_biases", self.correct_biases)
        check_whole("fine tensors", self.fine, 0)
        check_whole("seed", self.seed, 0, LARGEST_SEED)
        if self.guidance is not None:
            check_number("guidance", self.guidance, 0, LARGEST_GUIDANCE)
        check_number("prompt weight", self.prompt_weight, 0, LARGEST_PROMPT_WEIGHT)


@dataclass(frozen=True)
class Reading:
    """How a folder is read: which ``variant`` of its weights, the ``sample_size`` (height, width) of a model whose configuration
    has none, and whether the scheduler may be of another kind than the folder's."""

    variant: str | None = None
    sample_size: tuple[int, int] | None = None
    force_scheduler: bool = False

    def __post_init__(self) -> None:
        for side in self.sample_size or ():
            check_whole("sample size", side, 1, LARGEST_DIMENSION)
        check_yes_or_no("force_scheduler", self.force_scheduler)


def check_yes_or_no(name: str, value: Any) -> None:
    """ValueError for what is no bool, such as "no", which counts as true."""
    if not isinstance(value, bool):
        raise ValueError(f"found {name} {value!r}, expected True or False")


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """ValueError for what is no int (a bool is none) in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"found {name} {value!r}, expected a whole number")
    check_number(name, value, least, most)


def check_number(name: str, value: Any, least: float, most: float | None = None) -> None:
    """ValueError for what is no finite number in [least, most]."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < least or (most is not None and value > most):
        expected = f"a finite number from {least:g} on" if most is None else f"{least:g} to {most:g}"
        raise ValueError(f"found {name} {value!r}, expected {expected}")
