"""The NumPy schedulers equal diffusers' on whole trajectories."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from ditto_zynq.hls.artefact.rule import response
from ditto_zynq.host.runtime.schedulers import check_response, index_of, load_scheduler, standard_normal

CONFIGS = [
    {},
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "steps_offset": 1,
    },
    {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample", "clip_sample_range": 2.0},
    {"timestep_spacing": "trailing", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    {"timestep_spacing": "linspace"},
    {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.9},
    {"trained_betas": np.linspace(1e-4, 0.03, 1000).tolist()},
    {"num_train_timesteps": 400, "beta_end": 0.04},
]


SILENT = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}  # its first step begins with noise alone
LARGEST_ETA = {4: 0.9}  # by configuration, of those that begin so; of the others 1
SHAPE = (2, 3, 4, 5)
# torch's float32 square roots and powers are off by one ulp for some arguments: rescaling to zero SNR amplifies that, and
# so do few, long steps from a nearly pure noise
TOLERANCE = {4: 1e-5, 8: 2e-6}


def run_both(config, kind, steps, eta=0.0):
    """The same noise and model outputs through both: yields (one step from diffusers' sample, our own run, diffusers')."""
    ours = load_scheduler(config, kind, steps, eta)
    theirs = (DDIMScheduler if kind == "ddim" else DDPMScheduler).from_config(config)
    theirs.set_timesteps(steps)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    sample = standard_normal(0, 0, 0, SHAPE)
    reference = torch.from_numpy(sample)
    for index, timestep in enumerate(theirs.timesteps):
        output = standard_normal(1, 0, index, SHAPE)
        noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        if kind == "ddim":
            kwargs = {"eta": eta, "variance_noise": noise if eta else None}
        else:
            kwargs = {"generator": torch.Generator().manual_seed(index)}
        ours_noise = noise.numpy() if ours.needs_noise(index) else None
        single = ours.step(output, index, reference.numpy(), ours_noise)
        sample = ours.step(output, index, sample, ours_noise)
        reference = theirs.step(torch.from_numpy(output), timestep, reference, **kwargs).prev_sample
        yield single, sample, reference.numpy()


@pytest.mark.parametrize("config", range(len(CONFIGS)))
@pytest.mark.parametrize(("kind", "eta"), [("ddim", 0.0), ("ddim", 0.7), ("ddim", 1.0), ("ddpm", 0.0)])
@pytest.mark.parametrize("steps", [1, 7, 50, 200])
def test_steps_and_trajectories_equal_diffusers(config, kind, eta, steps):
    tolerance, eta = TOLERANCE.get(config, 1e-6), min(eta, LARGEST_ETA.get(config, 1.0))
    for single, ours, theirs in run_both(CONFIGS[config], kind, steps, eta):
        magnitude = max(1.0, np.abs(theirs).max())
        assert np.abs(single - theirs).max() <= tolerance * magnitude
        if steps <= 50:
            assert np.abs(ours - theirs).max() <= tolerance * magnitude


@pytest.mark.parametrize("config", range(len(CONFIGS)))
@pytest.mark.parametrize(("kind", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("ddpm", 0.0)])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_the_response_is_the_one_that_diffusers_recorded(config, kind, eta, steps):
    """And a coefficient that is off by 1% is noticed, as of a release of diffusers with another rule: in any step, but where
    samples are large in the first one."""
    eta = min(eta, LARGEST_ETA.get(config, 1.0))
    theirs = (DDIMScheduler if kind == "ddim" else DDPMScheduler).from_config(CONFIGS[config])
    recorded, ours = response(theirs, steps), load_scheduler(CONFIGS[config], kind, steps, eta)
    check_response(ours, "0.1.0", recorded)
    for step in {0, steps // 2, steps - 1} if kind == "ddim" else {0}:
        other = [value * 1.01 if index >= step else value for index, value in enumerate(recorded)]
        if abs(recorded[step]) > 0.5:
            with pytest.raises(ValueError, match=rf"step {step} of this {kind} schedule makes .* in diffusers 0\.1\.0"):
                check_response(ours, "0.1.0", other)
    with pytest.raises(ValueError, match=f"found a response of {steps + 1} steps, expected {steps}"):
        check_response(ours, "0.1.0", [*recorded, 1.0])


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large"])
@pytest.mark.parametrize("schedule", ["linear", "sigmoid"])
def test_ddpm_variances_equal_diffusers(variance, schedule):
    for single, _, theirs in run_both({"variance_type": variance, "beta_schedule": schedule}, "ddpm", 1000):
        assert np.abs(single - theirs).max() <= 1e-6 * max(1.0, np.abs(theirs).max())


@pytest.mark.parametrize(
    ("config", "kind", "steps", "eta", "message"),
    [
        ({}, "pndm", 10, 0, "found scheduler 'pndm', expected one of ddpm, ddim"),
        ({}, "ddim", 0, 0, "found 0 steps, expected 1 to 1000"),
        ({}, "ddim", 1001, 0, "found 1001 steps, expected 1 to 1000"),
        ({}, "ddpm", 10, 0.5, "eta belongs to the ddim scheduler"),
        ({"beta_schedule": "cubic"}, "ddim", 10, 0, "found beta_schedule = 'cubic'.*expected one of linear"),
        ({"prediction_type": "flow"}, "ddim", 10, 0, "found prediction_type = 'flow'"),
        ({"variance_type": "learned_range"}, "ddpm", 10, 0, "found variance_type = 'learned_range'"),
        ({"trained_betas": [0.1, 0.2]}, "ddim", 10, 0, "found 2 trained_betas, expected 1000"),
        ({"beta_start": float("nan")}, "ddim", 10, 0, "beta_start: found nan, expected a finite number"),
        ({"beta_end": 1}, "ddim", 10, 0, "beta_end: found 1, expected a finite number from 1e-07 to"),
        ({"trained_betas": [0.1, True], "num_train_timesteps": 2}, "ddim", 1, 0, r"trained_betas\[1\]: found True"),
        ({"num_train_timesteps": 10**9}, "ddim", 10, 0, "num_train_timesteps: found 1000000000, expected an integer"),
        ({"num_train_timesteps": 10.0}, "ddim", 10, 0, "num_train_timesteps: found 10.0, expected an integer"),
        ({"clip_sample": "no"}, "ddim", 10, 0, "clip_sample: found 'no', expected true or false"),
        ({"beta_start": 0.9, "beta_end": 0.999}, "ddim", 10, 0, "cumulated alphas from 0 to .*check its betas"),
        (SILENT, "ddim", 10, 0, "no signal at timestep 999, which prediction_type 'epsilon' divides by"),
        (SILENT | {"prediction_type": "sample"}, "ddim", 10, 1.0, "eta = 1 .* at timestep 999: .* take a smaller eta"),
        ({"variance_type": None}, "ddpm", 10, 0, "found variance_type = None .*expected one of fixed_small"),
        ({}, "ddim", 10, float("nan"), "found eta = nan, expected 0 to 1"),
        ({}, "ddim", 10, 31, "found eta = 31, expected 0 to 1"),
    ],
)
def test_unsupported_schedules_are_refused(config, kind, steps, eta, message):
    with pytest.raises(ValueError, match=message):
        load_scheduler(config, kind, steps, eta)


def test_ddim_reads_no_variance_type():
    found, expected = (load_scheduler(config, "ddim", 10) for config in ({"variance_type": "learned_range"}, {}))
    assert repr(found) == repr(expected)


def test_a_timestep_outside_the_schedule_lists_the_known_ones():
    timesteps = load_scheduler({}, "ddim", 4).timesteps.tolist()
    assert index_of(timesteps, 250) == 2
    with pytest.raises(ValueError, match="found timestep 980, expected one of the schedule: 750, 500, 250, 0"):
        index_of(timesteps, 980)


def test_missing_noise_is_an_error():
    scheduler = load_scheduler({}, "ddpm", 4)
    sample = np.zeros((1, 1, 2, 2))
    with pytest.raises(ValueError, match="adds noise"):
        scheduler.step(sample, 0, sample)


def test_noise_depends_on_seed_sample_and_draw_only():
    shape = (1, 28, 28)
    draws = [standard_normal(seed, sample, draw, shape) for seed in (0, 1) for sample in (0, 1) for draw in (0, 1, 2)]
    assert np.array_equal(draws[0], standard_normal(0, 0, 0, shape))
    for index, one in enumerate(draws):
        for other in draws[index + 1 :]:
            assert np.abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.15
    everything = np.concatenate([draw.ravel() for draw in draws])
    assert abs(everything.mean()) < 0.05 and abs(everything.std() - 1) < 0.05


def test_every_seed_has_noise_of_its_own():
    """Also the large ones, which differ by less than float64 can hold."""
    seeds = (0, 1, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1)
    assert len({standard_normal(seed, 0, 0, (4,)).tobytes() for seed in seeds}) == len(seeds)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=rf"found seed {seed}, expected one from 0 to 2\*\*64 - 1"):
            standard_normal(seed, 0, 0, (4,))
    with pytest.raises(TypeError, match=r"found seed 1.5 \(float\), expected an integer"):
        standard_normal(1.5, 0, 0, (4,))
