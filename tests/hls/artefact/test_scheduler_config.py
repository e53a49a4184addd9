"""What a scheduler's configuration may say."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.artefact.scheduler_config import SchedulerConfig, takes_variance


def test_other_schedulers_fields_are_left_to_diffusers():
    found = SchedulerConfig.of({"beta_end": 0.012, "solver_order": 2, "_diffusers_version": "0.1"})
    assert found.beta_end == 0.012 and found.num_train_timesteps == 1000


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"beta_end": 1.0}, "beta_end: found 1.0, expected a finite number from"),
        ({"clip_sample": "no"}, "clip_sample: found 'no', expected true or false"),
        ({"num_train_timesteps": 3, "trained_betas": [0.1, 0.2]}, "found 2 trained_betas, expected 3"),
        ({"_class_name": "DDIM"}, "_class_name: found 'DDIM'"),
    ],
)
def test_fields_out_of_range_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        SchedulerConfig.of(config)


def test_only_ddpms_schedulers_take_a_variance():
    learned = {"variance_type": "learned_range"}
    assert takes_variance("DDPMScheduler", learned) and takes_variance("DDPMParallelScheduler", learned)
    assert not takes_variance("DDIMScheduler", learned) and not takes_variance("DDPMScheduler", {})
