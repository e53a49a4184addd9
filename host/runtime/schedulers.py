"""DDPM and DDIM sampling in NumPy, equal to diffusers' schedulers: the host's part of a denoising step.

Samples are float64. Coefficients are computed in float32 in the order in which diffusers computes them, because a difference
such as ``1 - alpha_t / alpha_prev`` keeps only a few of float32's digits and would otherwise not agree to 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ...hls.artefact.noise_schedule import KINDS as KINDS
from ...hls.artefact.noise_schedule import ONE, VARIANCES, ddim_deviation, noise_schedule, supported
from ...hls.artefact.rule import AMPLITUDE, OUTPUT_PART, TOLERANCE
from ...hls.artefact.scheduler_config import SchedulerConfig
from ..common.arguments import integer
from ..common.limits import SEED_BITS

RESPONSE_NOISE = (
    1.5409960746765137  # of every step of a recorded response: torch's first float32 normal number of seed 0
)


class Sampler(Protocol):
    """What the denoising loop needs of a schedule; see :class:`Scheduler`."""

    def __len__(self) -> int: ...

    def initial(self, noise: np.ndarray) -> np.ndarray:
        """The sample that a run begins with, of standard normal ``noise`` [B, ...]."""

    def scaled(self, sample: np.ndarray, index: int) -> np.ndarray:
        """What the model is asked in step ``index``."""

    def needs_noise(self, index: int) -> bool:
        """Whether step ``index`` adds noise that it is given."""

    def step(self, output: np.ndarray, index: int, sample: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """The sample after step ``index``, given the model's ``output`` for it."""


@dataclass(frozen=True)
class Scheduler:
    """A sampler for one schedule. ``alphas_cumprod`` float32 [trained steps]; ``timesteps`` int64 [steps], descending.

    ``previous`` holds the timestep that follows each one, negative at the end; ``final_alpha`` stands for that end.
    """

    kind: str
    timesteps: np.ndarray
    previous: np.ndarray
    alphas_cumprod: np.ndarray
    final_alpha: np.float32
    prediction_type: str = "epsilon"
    clip: float | None = 1.0
    threshold: tuple[float, float] | None = None  # ratio, largest value
    variance_type: str = VARIANCES[0]  # of DDPM's steps
    eta: float = 0.0

    def __len__(self) -> int:
        return len(self.timesteps)

    def initial(self, noise: np.ndarray) -> np.ndarray:
        """The sample that a run begins with, of standard normal ``noise`` [B, ...]."""
        return noise

    def scaled(self, sample: np.ndarray, index: int) -> np.ndarray:
        """What the model is asked in step ``index``."""
        return sample

    def needs_noise(self, index: int) -> bool:
        """Whether step ``index`` adds noise."""
        return bool(self.timesteps[index] > 0) if self.kind == "ddpm" else self.eta > 0

    def step(self, output: np.ndarray, index: int, sample: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """The sample [B, C, H, W] after step ``index``, given the model's ``output`` [B, C or 2 C, H, W] for it; all float64.

        More channels than the sample's are a variance, which is not used. ``noise``: standard normal, of the sample's shape,
        where :meth:`needs_noise`; else it is ignored.
        """
        if self.needs_noise(index) and noise is None:
            raise ValueError(f"step {index} of this {self.kind} schedule adds noise; none was given")
        output = output[:, : sample.shape[1]]
        alpha = self.alphas_cumprod[self.timesteps[index]]
        before = int(self.previous[index])
        alpha_previous = self.alphas_cumprod[before] if before >= 0 else self.final_alpha
        original, epsilon = self._predict(output, sample, alpha)
        advance = self._ddpm if self.kind == "ddpm" else self._ddim
        return advance(index, sample, original, epsilon, noise, alpha, alpha_previous)

    def _predict(self, output: np.ndarray, sample: np.ndarray, alpha: np.float32) -> tuple[np.ndarray, np.ndarray]:
        """The (clipped) prediction of the final sample, and the noise: DDIM, Song et al. 2021, formula 12; v: Salimans & Ho
        2022."""
        signal, noise = float(np.sqrt(alpha)), float(np.sqrt(ONE - alpha))
        if self.prediction_type == "epsilon":
            original, epsilon = (sample - noise * output) / signal, output
        elif self.prediction_type == "sample":
            original, epsilon = output, (sample - signal * output) / noise
        else:
            original, epsilon = signal * sample - noise * output, signal * output + noise * sample
        if self.threshold is not None:
            original = _dynamic_threshold(original, *self.threshold)
        elif self.clip is not None:
            original = np.clip(original, -self.clip, self.clip)
        return original, epsilon

    def _ddpm(self, index, sample, original, epsilon, noise, alpha, alpha_previous):  # type: ignore[no-untyped-def]
        """A step of DDPM, Ho et al. 2020, formula 7."""
        beta, beta_previous = ONE - alpha, ONE - alpha_previous
        step_alpha = alpha / alpha_previous
        step_beta = ONE - step_alpha
        result = float(np.sqrt(alpha_previous) * step_beta / beta) * original
        result = result + float(np.sqrt(step_alpha) * beta_previous / beta) * sample
        if self.needs_noise(index):
            result = result + self._ddpm_deviation(alpha, alpha_previous) * noise
        return result

    def _ddpm_deviation(self, alpha: np.float32, alpha_previous: np.float32) -> float:
        step_beta = ONE - alpha / alpha_previous
        small = max((ONE - alpha_previous) / (ONE - alpha) * step_beta, np.float32(1e-20))
        if self.variance_type == "fixed_large":
            return float(np.sqrt(step_beta))
        if self.variance_type == "fixed_small_log":
            return float(np.exp(np.float32(0.5) * np.log(small)))
        return float(np.sqrt(small))

    def _ddim(self, index, sample, original, epsilon, noise, alpha, alpha_previous):  # type: ignore[no-untyped-def]
        """A step of DDIM, Song et al. 2021, formulas 12 and 16."""
        deviation = ddim_deviation(alpha, alpha_previous, self.eta)
        direction = float(np.sqrt(ONE - alpha_previous - deviation * deviation)) * epsilon
        result = float(np.sqrt(alpha_previous)) * original + direction
        return result + float(deviation) * noise if self.eta > 0 else result


def index_of(timesteps: Sequence[float], timestep: float, expected: int = 0) -> int:
    """The position of a timestep in a schedule: ``expected`` if it is the one there, else the first.

    Some schedules have a timestep twice. ValueError, listing the known ones, where it is not in it.
    """
    if expected < len(timesteps) and timesteps[expected] == timestep:
        return expected
    if timestep not in timesteps:
        known = ", ".join(map(str, timesteps))
        raise ValueError(f"found timestep {timestep}, expected one of the schedule: {known}")
    return timesteps.index(timestep)


def load_scheduler(config: Mapping[str, Any], kind: str, steps: int, eta: float = 0.0) -> Scheduler:
    """A scheduler of ``steps`` steps from a diffusers ``scheduler_config.json``. ValueError, with what is supported, for anything
    else."""
    checked = SchedulerConfig.of(config)
    noise = noise_schedule(checked, kind, steps, eta)
    if kind == "ddpm":
        supported("variance_type", checked.variance_type, VARIANCES)
    return Scheduler(
        kind=kind,
        timesteps=noise.timesteps,
        previous=noise.previous,
        alphas_cumprod=noise.alphas_cumprod,
        final_alpha=noise.final_alpha,
        prediction_type=checked.prediction_type,
        clip=checked.clip_sample_range if checked.clip_sample else None,
        threshold=(checked.dynamic_thresholding_ratio, checked.sample_max_value) if checked.thresholding else None,
        variance_type=str(checked.variance_type) if kind == "ddpm" else VARIANCES[0],
        eta=eta,
    )


def check_timesteps(found: Sequence[float], expected: Sequence[float]) -> None:
    """ValueError where a scheduler's timesteps are not those that a model is quantized for."""
    if list(found) != list(expected):
        raise ValueError("the model's timesteps are not those of its scheduler configuration; quantize it again")


def check_response(scheduler: Scheduler, diffusers: str, response: Sequence[float]) -> None:
    """ValueError where ``scheduler`` does not step as that of ``diffusers``' release did, whose ``response`` [steps] was
    recorded when the model was quantized (:mod:`ditto_zynq.hls.artefact.rule`).

    Each step begins with what was recorded of the one before: diffusers' float32 is rounded to a part of the sample, not of the
    difference of two that is recorded, and that adds up.
    """
    quiet = replace(scheduler, eta=0.0, clip=None, threshold=None)  # as it was recorded
    sample, before = np.zeros((1, 1, 1, 1)), 1.0
    for step, expected in enumerate(response[: len(quiet)]):
        both = np.concatenate([sample, sample + AMPLITUDE * before])
        after = quiet.step(OUTPUT_PART * both, step, both, np.full_like(both, RESPONSE_NOISE))
        found, sample, before = float(after[1, 0, 0, 0] - after[0, 0, 0, 0]) / AMPLITUDE, after[:1], expected
        if not abs(found - expected) <= TOLERANCE * max(abs(expected), abs(float(sample[0, 0, 0, 0])), 1.0):
            raise ValueError(
                f"step {step} of this {scheduler.kind} schedule makes {found:.6g} of what became {expected:.6g} in diffusers "
                f"{diffusers}, for which the model is quantized; run it there, with ditto_zynq.host.diffusers.wrap, or quantize "
                "it again"
            )
    if len(response) != len(quiet):
        raise ValueError(f"found a response of {len(response)} steps, expected {len(quiet)}; quantize the model again")


def standard_normal(seed: int, sample: int, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    """Noise float64 of ``shape`` that depends on (seed, sample, draw) only, not on batch or order: Philox, a counter-based
    generator.

    Draw 0 is a sample's initial latent, draw i + 1 the noise of step i. ValueError for a seed out of [0, 2**64).
    """
    check_seed(seed)
    key, counter = np.array([seed, sample], np.uint64), np.array([0, 0, 0, draw], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    return generator.standard_normal(shape)


def check_seed(seed: Any, bits: int = SEED_BITS) -> None:
    """TypeError for a seed that is no integer, ValueError for one that is not from 0 to 2**bits - 1, all of which give images of
    their own."""
    if not 0 <= integer("seed", seed) < 1 << bits:
        raise ValueError(f"found seed {seed}, expected one from 0 to 2**{bits} - 1")


def _dynamic_threshold(sample: np.ndarray, ratio: float, largest: float) -> np.ndarray:
    """The sample after dynamic thresholding: Imagen, Saharia et al. 2022, section 2.3."""
    flat = np.abs(sample).reshape(len(sample), -1)
    limit = np.clip(np.quantile(flat, ratio, axis=1), 1, largest).reshape(-1, *(1,) * (sample.ndim - 1))
    return np.clip(sample, -limit, limit) / limit
