"""Schedules in NumPy: steps that descend to the end, and refusals that say what is supported. Equality with diffusers is in
host/runtime/test_schedulers.py."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.artefact.noise_schedule import KINDS, SPACINGS, ddim_deviation, noise_schedule, supported
from ditto_zynq.hls.artefact.scheduler_config import SchedulerConfig


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_step_leaves_less_noise(kind, spacing):
    found = noise_schedule(SchedulerConfig.of({"timestep_spacing": spacing}), kind, 7)
    assert len(found.timesteps) == len(found.previous) == 7 and (np.diff(found.timesteps) < 0).all()
    assert found.alphas_cumprod.dtype == np.float32 and (np.diff(found.alphas_cumprod) < 0).all()
    assert all(before < after for before, after in map(found.alphas, range(7)))
    if kind == "ddpm":
        assert np.array_equal(found.previous[:-1], found.timesteps[1:]) and found.alphas(6)[1] == found.final_alpha == 1


def test_ddims_deviation_is_that_of_ddpm_at_eta_1():
    before, after = np.float32(0.5), np.float32(0.75)
    assert ddim_deviation(before, after, 0.0) == 0
    assert ddim_deviation(before, after, 1.0) == pytest.approx(np.sqrt(0.25 / 0.5 * (1 - 0.5 / 0.75)))


def test_what_is_not_supported_is_said_with_what_is():
    assert supported("beta_schedule", "linear", ("linear", "sigmoid")) == "linear"
    with pytest.raises(ValueError, match=r"found beta_schedule = 'laplace' .*expected one of linear, sigmoid; mend it"):
        supported("beta_schedule", "laplace", ("linear", "sigmoid"))
