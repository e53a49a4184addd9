"""The rule of a schedule: recorded with a model, and another one is noticed whatever its name and configuration say."""

from __future__ import annotations

import itertools

import diffusers
import pytest
from ditto_zynq.hls.artefact.rule import check_rule, response, rule_of

KINDS = ("DDPM", "DDIM", "PNDM", "EulerDiscrete", "DPMSolverMultistep", "HeunDiscrete")


def quantization(scheduler, steps: int) -> dict:
    return {"steps": steps, "rule": rule_of(scheduler, steps)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_scheduler_steps_as_it_did(kind):
    scheduler = getattr(diffusers, f"{kind}Scheduler")(timestep_spacing="linspace")
    recorded = quantization(scheduler, 8)
    assert recorded["rule"]["diffusers"] == diffusers.__version__
    check_rule(recorded, scheduler)
    scheduler.set_timesteps(5)
    timesteps = scheduler.timesteps.tolist()
    check_rule(recorded, scheduler)
    assert scheduler.timesteps.tolist() == timesteps, "the scheduler itself was changed"


def test_two_steps_of_ddim_by_hand():
    """x' = sqrt(a') (x - sqrt(1 - a) e) / sqrt(a) + sqrt(1 - a') e with e = x / 2, Song et al. 2021, formula 12."""
    scheduler = diffusers.DDIMScheduler(clip_sample=True)
    x, expected = 1.0, []
    for timestep, previous in ((500, 0), (0, -500)):
        a = float(scheduler.alphas_cumprod[timestep])
        after = float(scheduler.alphas_cumprod[previous]) if previous >= 0 else 1.0
        original = (x - (1 - a) ** 0.5 * x / 2) / a**0.5
        x = after**0.5 * original + (1 - after) ** 0.5 * x / 2
        expected.append(x)
    assert response(scheduler, 2) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("clip_sample", [False, True])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
def test_noise_is_not_part_of_the_rule(variance, clip_sample):
    """x' = c x + d (x - sqrt(1 - a) e) / sqrt(a) with e = x / 2, Ho et al. 2020, formula 7, however large the noise is, and
    where noise would be clipped."""
    scheduler = diffusers.DDPMScheduler(variance_type=variance, clip_sample=clip_sample)
    x, expected, alphas = 1.0, [], [1.0, *scheduler.alphas_cumprod[::200].tolist()]
    for before, a in reversed(list(itertools.pairwise(alphas))):
        ratio = a / before
        original = (x - (1 - a) ** 0.5 * x / 2) / a**0.5
        x = before**0.5 * (1 - ratio) / (1 - a) * original + ratio**0.5 * (1 - before) / (1 - a) * x
        expected.append(x)
    assert response(scheduler, 5) == pytest.approx(expected, rel=1e-6)


def test_another_rule_under_the_same_name_is_refused(monkeypatch):
    """As when a release of diffusers takes the list's next timestep where it took t - trained / steps."""
    scheduler = diffusers.DDIMScheduler(timestep_spacing="linspace")
    recorded = quantization(scheduler, 10)
    recorded["rule"]["diffusers"] = "0.1.2"
    step = diffusers.DDIMScheduler.step

    def with_listed_timesteps(self, output, timestep, sample, **others):
        listed = [*self.timesteps.tolist(), -1]
        before = self.num_inference_steps
        self.num_inference_steps = self.config.num_train_timesteps // (
            int(timestep) - listed[listed.index(int(timestep)) + 1]
        )
        result = step(self, output, timestep, sample, **others)
        self.num_inference_steps = before
        return result

    monkeypatch.setattr(diffusers.DDIMScheduler, "step", with_listed_timesteps)
    with pytest.raises(ValueError, match=r"does not step as that of 0\.1\.2, .* install diffusers==0\.1\.2, or quant"):
        check_rule(recorded, scheduler)


def test_other_timesteps_and_betas_are_refused():
    recorded = quantization(diffusers.DDIMScheduler(), 10)
    for other in ({"timestep_spacing": "trailing"}, {"beta_schedule": "scaled_linear"}, {"steps_offset": 40}):
        with pytest.raises(ValueError, match="does not step as"):
            check_rule(recorded, diffusers.DDIMScheduler(**other))
    check_rule({"steps": 10}, diffusers.DDIMScheduler())  # of a model that was made before rules were recorded
