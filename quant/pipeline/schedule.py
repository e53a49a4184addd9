"""The diffusers scheduler that a model is quantized for, refused where it would compute nonsense."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

from diffusers.schedulers import KarrasDiffusionSchedulers

from ...hls.artefact.noise_schedule import KINDS, PREDICTIONS, noise_schedule, supported
from ...hls.artefact.rule import rule_of
from ...hls.artefact.scheduler_config import SchedulerConfig
from ...hls.common.explained import explained
from ..common.options import SCHEDULERS, Schedule

# Trained on the same discrete betas, so that one's configuration is any other's; diffusers counts EDM's among them, which is not.
EXCHANGEABLE = {each.name for each in KarrasDiffusionSchedulers} - {"EDMEulerScheduler"}
EXCHANGEABLE |= {"DDIMParallelScheduler", "DDPMParallelScheduler"}


def check_class(found: str | None, schedule: Schedule) -> None:
    """ValueError where a folder's scheduler, of class ``found``, is of another kind than the one asked for: its model was trained
    for other noise levels, or distilled for other steps; or where the folder does not say (None)."""
    asked = SCHEDULERS[schedule.scheduler].__name__
    if found is None:
        raise ValueError(
            "found no _class_name in the scheduler's configuration, which says what noise the model was trained for; write it "
            f"there, or say --force-scheduler if that is {asked}'s"
        )
    if found == asked or found in EXCHANGEABLE:
        return
    own = next((name for name, known in SCHEDULERS.items() if known.__name__ == found), None)
    advice = f"ask for --scheduler {own}" if own else "this kind is not supported"
    raise ValueError(
        f"found a {found} in the folder, whose model {asked} does not fit; {advice}, or say --force-scheduler if the model "
        f"was trained with the betas of its configuration and {schedule.scheduler} is what you want"
    )


def scheduler_for(config: Mapping[str, Any], schedule: Schedule) -> tuple[Any, dict[str, Any]]:
    """diffusers' scheduler, set to the schedule, and its rule (:mod:`ditto_zynq.hls.artefact.rule`).

    ValueError for betas or predictions that it does not know, for timesteps it was not trained with, and for all else that the
    sampler which will draw does not take (:mod:`ditto_zynq.hls.artefact.noise_schedule`).
    """
    kind = SCHEDULERS[schedule.scheduler]
    supported("prediction_type", SchedulerConfig.of(config).prediction_type, PREDICTIONS)
    if config.get("use_flow_sigmas"):
        raise ValueError("found use_flow_sigmas in the scheduler's configuration: flow matching is not supported")
    what = f"diffusers' {kind.__name__} does not take {schedule.steps} such steps"
    advice = "ask for another --scheduler, such as ddpm, or other --steps"
    with explained(what, advice):
        scheduler = kind.from_config(dict(config))
        scheduler.set_timesteps(schedule.steps)
    _check_timesteps(scheduler, schedule)
    with explained(what, advice):
        rule = rule_of(scheduler, schedule.steps)
    if not all(map(math.isfinite, rule["response"])):
        step = next(index for index, value in enumerate(rule["response"]) if not math.isfinite(value))
        raise ValueError(
            f"diffusers' {kind.__name__} makes infinities in step {step}, whatever the model "
            "predicts; choose another --scheduler, or other betas"
        )
    return scheduler, rule


def _check_timesteps(scheduler: Any, schedule: Schedule) -> None:
    trained, timesteps = scheduler.config.num_train_timesteps, scheduler.timesteps.tolist()
    exact = schedule.scheduler in KINDS
    if (exact and len(timesteps) != schedule.steps) or not 0 <= min(timesteps) <= max(timesteps) < trained:
        raise ValueError(
            f"found {len(timesteps)} timesteps up to {max(timesteps):g} for {schedule.steps} steps, expected {schedule.steps} "
            f"below {trained}, which the model was trained with; choose fewer --steps"
        )
    if exact:
        noise_schedule(SchedulerConfig.of(scheduler.config), schedule.scheduler, schedule.steps, schedule.eta)


def with_eta(scheduler: Any, schedule: Schedule) -> Any:
    """The scheduler with ``eta`` bound, so that calibration trajectories are the ones that will be run."""
    if schedule.eta:
        bound = functools.partial(scheduler.step, eta=schedule.eta)
        functools.update_wrapper(bound, scheduler.step)
        bound.__signature__ = inspect.signature(scheduler.step)  # type: ignore[attr-defined]
        scheduler.step = bound
    return scheduler
