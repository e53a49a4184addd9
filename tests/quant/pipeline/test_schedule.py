"""A schedule that quantizing takes is one that the NumPy sampler draws with, and the other way round; others are refused in one
line before any calibration."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import UNet2DModel
from ditto_zynq.host.runtime.schedulers import check_response, check_timesteps, load_scheduler
from ditto_zynq.quant.common.options import Reading, Schedule
from ditto_zynq.quant.pipeline.schedule import scheduler_for
from ditto_zynq.quant.quantize import quantize

from tests.pipelines import unet2d
from tests.quant.refusals import DDPM, OPTIONS, SCHEDULE, refuse, scheduler

KINDS = [("ddim", eta, "fixed_small") for eta in (0.0, 1.0)]
KINDS += [("ddpm", 0.0, variance) for variance in ("fixed_small", "fixed_large", None, "foo")]
SPACINGS, PREDICTIONS = ("leading", "trailing", "linspace"), ("epsilon", "v_prediction", "sample")
BETAS = ("linear", "squaredcos_cap_v2")


def draws(sampler) -> bool:
    """Whether all steps of zeros are finite."""
    zeros = np.zeros((1, 1, 2, 2))
    return all(np.isfinite(sampler.step(zeros, step, zeros, zeros)).all() for step in range(len(sampler)))


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(("kind", "eta", "variance"), KINDS)
def test_both_sides_take_the_same(kind, eta, variance, silent):
    taken = 0
    for spacing, prediction, betas, steps in itertools.product(SPACINGS, PREDICTIONS, BETAS, (1, 2, 7)):
        config = {"timestep_spacing": spacing, "prediction_type": prediction, "variance_type": variance}
        config |= {"beta_schedule": betas, "rescale_betas_zero_snr": silent, "num_train_timesteps": 200}
        try:
            scheduler, rule = scheduler_for(config, Schedule(kind, steps, eta, 1))
        except ValueError as error:
            assert "\n" not in str(error)
            with pytest.raises(ValueError, match="found"):
                load_scheduler(config, kind, steps, eta)
            continue
        sampler = load_scheduler(json.loads(scheduler.to_json_string()), kind, steps, eta)
        check_timesteps(sampler.timesteps.tolist(), scheduler.timesteps.tolist())
        check_response(sampler, **rule)
        assert draws(sampler)
        taken += 1
    assert (taken > 20) == (variance in ("fixed_small", "fixed_large"))


SCHEDULERS = {
    "CMStochasticIterativeScheduler": "this kind is not supported, or say --force-scheduler",
    "EDMEulerScheduler": "this kind is not supported",
    "EDMDPMSolverMultistepScheduler": "this kind is not supported",
    "FlowMatchEulerDiscreteScheduler": "this kind is not supported",
    "ScoreSdeVeScheduler": "this kind is not supported",
    "TCDScheduler": "this kind is not supported",
    "SomebodysScheduler": "this kind is not supported",
    "LCMScheduler": "ask for --scheduler lcm, or say --force-scheduler",
}


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_schedulers_of_other_kinds(kind, pixels, tmp_path):
    refuse(pixels, tmp_path, scheduler(_class_name=kind), f"found a {kind} in the folder, .*{SCHEDULERS[kind]}")


def test_a_scheduler_of_no_class_is_not_taken_for_the_one_asked_for(pixels, tmp_path):
    refuse(
        pixels, tmp_path, scheduler(_class_name=None), "found no _class_name in the scheduler's .* --force-scheduler"
    )


@pytest.mark.parametrize("kind", ["TCDScheduler", None])
def test_the_scheduler_asked_for_can_be_forced(kind, pixels, tmp_path):
    """Its betas are those of the folder's configuration."""
    shutil.copytree(pixels, tmp_path / "float")
    scheduler(_class_name=kind, beta_end=0.03)(tmp_path / "float")
    found = quantize(tmp_path / "float", tmp_path / "out", SCHEDULE, OPTIONS, reading=Reading(force_scheduler=True))
    assert found.scheduler["_class_name"] == "DDIMScheduler" and found.scheduler["beta_end"] == 0.03


@pytest.mark.parametrize(
    ("change", "schedule", "message"),
    [
        ({"beta_schedule": "sigmoid"}, SCHEDULE, "DDIMScheduler does not take 2 .*sigmoid is not impl.*such as ddpm"),
        (
            {"beta_schedule": "laplace"},
            Schedule("euler", 2, 0.0, 1),
            "EulerDiscreteScheduler does not take 2 such steps: laplace is not implemented",
        ),
        ({"algorithm_type": "sde"}, Schedule("dpm++", 2, 0.0, 1), "take 2 such steps: sde is not implemented"),
        ({"prediction_type": "flow_prediction"}, SCHEDULE, "found prediction_type = 'flow_prediction'"),
        ({"use_flow_sigmas": True}, Schedule("dpm++", 2, 0.0, 1), "flow matching is not supported"),
        ({"steps_offset": 1}, Schedule("ddim", 1000), "timesteps up to 1000 for 1000 steps, expected 1000 below 1000"),
        ({}, Schedule("ddim", 1001), "1001"),
        ({}, Schedule("pndm", 3, 0.0, 1), "PNDMScheduler does not take 3 such steps"),
        (
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
            SCHEDULE,
            "leave no signal at timestep 999",
        ),
        (
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
            Schedule("ddim", 2, 1.0, 1),
            "found eta = 1 and betas that leave no signal at timestep 999: .* take a smaller eta",
        ),
        ({"variance_type": None}, DDPM, "found variance_type = None .*expected one of fixed_small,.*; mend it"),
        ({"variance_type": "foo"}, DDPM, "found variance_type = 'foo'"),
        ({"variance_type": "learned_foo"}, DDPM, "found variance_type = 'learned_foo'"),
        ({"beta_schedule": "laplace"}, DDPM, "found beta_schedule = 'laplace' .*expected one of linear"),
    ],
)
def test_schedules_that_cannot_be(change, schedule, message, pixels, tmp_path):
    refuse(pixels, tmp_path, scheduler(**change), message, schedule)


def test_a_learned_variance_needs_a_scheduler_that_takes_it(pixels, tmp_path):
    def learn_variance(folder: Path) -> None:
        UNet2DModel(**{**unet2d().config, "out_channels": 6}).save_pretrained(folder / "unet")
        scheduler(variance_type="learned_range")(folder)

    refuse(pixels, tmp_path, learn_variance, "6 output channels for 3: .* only ddpm with variance_type 'learned'")


def test_a_scheduler_that_takes_a_variance_needs_a_model_that_predicts_it(pixels, tmp_path):
    ddpm = Schedule("ddpm", 2, 0.0, 1)
    refuse(pixels, tmp_path, scheduler(variance_type="learned"), "'learned', which needs twice as many outputs", ddpm)
