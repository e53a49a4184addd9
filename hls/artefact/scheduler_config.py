"""What a diffusers ``scheduler_config.json`` may say: the fields that sampling reads, each with its range.

Other fields are other schedulers' and are left to diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ..common.limits import MOST_TRAINED_STEPS
from ..common.schema import Illegal, Length, Matches, Range, Text, read

Beta = Annotated[float, Range(1e-7, 1 - 1e-7)]  # in float32 1 - beta is neither 0 nor 1
LEARNED_VARIANCES = ("learned", "learned_range")  # that the model predicts, of DDPM's steps
TrainedSteps = Annotated[int, Range(1, MOST_TRAINED_STEPS)]


def takes_variance(kind: str, config: Mapping[str, Any]) -> bool:
    """Whether diffusers' scheduler of class ``kind`` takes the second half of the model's output as a variance.

    Only DDPM's do. Others keep the ``variance_type`` of the configuration that they were made from, and read nothing of it.
    """
    return kind.startswith("DDPM") and config.get("variance_type") in LEARNED_VARIANCES


@dataclass(frozen=True)
class SchedulerConfig:
    """The fields of a scheduler's configuration that sampling reads. Defaults are those of diffusers' DDPMScheduler and
    DDIMScheduler."""

    _class_name: Annotated[str, Matches(r"[A-Za-z0-9]{1,80}Scheduler")] | None = None
    num_train_timesteps: TrainedSteps = 1000
    beta_start: Beta = 0.0001
    beta_end: Beta = 0.02
    beta_schedule: Text = "linear"
    trained_betas: Annotated[tuple[Beta, ...], Length(1, MOST_TRAINED_STEPS)] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: Text = "epsilon"
    timestep_spacing: Text = "leading"
    steps_offset: Annotated[int, Range(0, MOST_TRAINED_STEPS)] = 0
    set_alpha_to_one: bool = True
    variance_type: Text | None = "fixed_small"
    clip_sample: bool = True
    clip_sample_range: Annotated[float, Range(1e-6, 1e6)] = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: Annotated[float, Range(0, 1)] = 0.995
    sample_max_value: Annotated[float, Range(1, 1e6)] = 1.0

    @staticmethod
    def of(config: Mapping[str, Any]) -> SchedulerConfig:
        """The fields of diffusers' configuration. ValueError with what was found and what was expected."""
        result: SchedulerConfig = read(SchedulerConfig, config, "the scheduler's configuration", others=True)
        betas, trained = result.trained_betas, result.num_train_timesteps
        if betas is not None and len(betas) != trained:
            raise Illegal(f"found {len(betas)} trained_betas, expected {trained}")
        return result
