"""A schedule that quantizing takes is one that the NumPy sampler draws with, and the other way round."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from ditto_zynq.host.runtime.schedulers import check_response, check_timesteps, load_scheduler
from ditto_zynq.quant.common.options import Schedule
from ditto_zynq.quant.pipeline.schedule import scheduler_for

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
