"""Timesteps and betas of DDPM's and DDIM's schedules in NumPy, equal to diffusers', and all that the NumPy sampler asks of them.

One place for both sides: what :func:`noise_schedule` refuses, quantizing refuses before it calibrates, and drawing refuses too.
Coefficients are float32, in the order in which diffusers computes them (:mod:`ditto_zynq.host.runtime.schedulers`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .scheduler_config import LEARNED_VARIANCES, SchedulerConfig

KINDS = ("ddpm", "ddim")
SPACINGS = ("leading", "trailing", "linspace")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")
ONE = np.float32(1)
LEAST_DIRECTION = 1e-6  # of a step's noise, that DDIM's noise of its own must leave: what is less is float32's rounding


@dataclass(frozen=True)
class NoiseSchedule:
    """A schedule of DDPM or DDIM. ``timesteps`` int64 [steps], descending; ``previous`` the one that follows each, negative at
    the end, for which ``final_alpha`` stands; ``alphas_cumprod`` float32 [trained steps]."""

    timesteps: np.ndarray
    previous: np.ndarray
    alphas_cumprod: np.ndarray
    final_alpha: np.float32

    def alphas(self, index: int) -> tuple[np.float32, np.float32]:
        """The products of alphas before and after step ``index``."""
        before, following = self.alphas_cumprod[self.timesteps[index]], int(self.previous[index])
        return before, self.alphas_cumprod[following] if following >= 0 else self.final_alpha


def noise_schedule(config: SchedulerConfig, kind: str, steps: int, eta: float = 0.0) -> NoiseSchedule:
    """The schedule of ``steps`` steps. ValueError, with what is supported, for one that cannot be sampled.

    DDPM's variances that a model predicts are left to those who sample with them.
    """
    if kind not in KINDS:
        raise ValueError(f"found scheduler {kind!r}, expected one of {', '.join(KINDS)}")
    trained = config.num_train_timesteps
    if not 1 <= steps <= trained:
        raise ValueError(f"found {steps} steps, expected 1 to {trained} (the timesteps the model was trained with)")
    if eta and kind == "ddpm":
        raise ValueError("eta belongs to the ddim scheduler; leave it out for ddpm")
    if not 0 <= eta <= 1:
        raise ValueError(f"found eta = {eta}, expected 0 to 1")
    timesteps = _timesteps(config, steps)
    if timesteps[0] >= trained or len(timesteps) != steps:
        raise ValueError(
            f"found timesteps up to {timesteps[0]} in {len(timesteps)} steps, expected {steps} below {trained}"
        )
    supported("prediction_type", config.prediction_type, PREDICTIONS)
    if kind == "ddpm":
        supported("variance_type", config.variance_type, (*VARIANCES, *LEARNED_VARIANCES))
    alphas_cumprod = _alphas_cumprod(config)
    schedule = NoiseSchedule(
        timesteps,
        np.append(timesteps[1:], -1) if kind == "ddpm" else timesteps - trained // steps,
        alphas_cumprod,
        ONE if kind == "ddpm" or config.set_alpha_to_one else alphas_cumprod[0],
    )
    _check_signal(schedule, config.prediction_type)
    if eta:
        _check_direction(schedule, eta)
    return schedule


def _check_signal(schedule: NoiseSchedule, prediction: str) -> None:
    silent = [int(timestep) for timestep in schedule.timesteps if schedule.alphas_cumprod[timestep] <= 0]
    if prediction == "epsilon" and silent:
        raise ValueError(
            f"found betas (rescale_betas_zero_snr, or very large ones) that leave no signal at timestep {silent[0]}, which "
            "prediction_type 'epsilon' divides by; such a model predicts 'v_prediction' or 'sample'"
        )


def _check_direction(schedule: NoiseSchedule, eta: float) -> None:
    """ValueError where the rest of a step's noise, whose root is taken, is rounding or below zero, as where a step begins without
    signal."""
    for index, timestep in enumerate(schedule.timesteps):
        alpha, after = schedule.alphas(index)
        deviation = ddim_deviation(alpha, after, eta)
        if after < 1 and ONE - after - deviation * deviation <= LEAST_DIRECTION * (ONE - after):
            raise ValueError(
                f"found eta = {eta:g} and betas that leave no signal at timestep {timestep}: its step would take the root of a "
                "negative number; take a smaller eta, such as 0.9"
            )


def ddim_deviation(alpha: np.float32, alpha_previous: np.float32, eta: float) -> np.float32:
    """The standard deviation of the noise that a DDIM step adds: Song et al. 2021, formula 16."""
    variance = (ONE - alpha_previous) / (ONE - alpha) * (ONE - alpha / alpha_previous)
    return np.float32(np.float32(eta) * np.sqrt(variance))


def supported(name: str, found: str | None, known: tuple[str, ...]) -> str:
    """``found``, a field of the configuration, as it is. ValueError, with what is ``known``, where it is none of that."""
    if found is None or found not in known:
        raise ValueError(
            f"found {name} = {found!r} in the scheduler configuration, expected one of {', '.join(known)}; mend it"
        )
    return found


def _alphas_cumprod(config: SchedulerConfig) -> np.ndarray:
    """The products of alphas float32 [trained steps], all of them above 0 and below 1; only at zero SNR the last one is 0.
    ValueError for others."""
    trained, start, end = config.num_train_timesteps, config.beta_start, config.beta_end
    betas: np.ndarray
    if config.trained_betas is not None:
        betas = np.asarray(config.trained_betas, np.float32)
    else:
        schedule = supported("beta_schedule", config.beta_schedule, BETA_SCHEDULES)
        if schedule == "linear":
            betas = _linspace(start, end, trained)
        elif schedule == "scaled_linear":
            betas = _linspace(start**0.5, end**0.5, trained) ** 2
        elif schedule == "sigmoid":
            ramp = _linspace(-6, 6, trained)
            betas = ONE / (ONE + np.exp(-ramp)) * np.float32(end - start) + np.float32(start)
        else:
            betas = _cosine_betas(trained)
    if config.rescale_betas_zero_snr:
        betas = _rescale_to_zero_snr(betas)
    alphas_cumprod = np.cumprod((ONE - betas).astype(np.float64)).astype(np.float32)
    noisy = alphas_cumprod[:-1] if config.rescale_betas_zero_snr else alphas_cumprod
    if not (np.all((noisy > 0) & (noisy < 1)) and np.all(alphas_cumprod >= 0)):
        raise ValueError(
            f"found cumulated alphas from {alphas_cumprod.min():g} to {alphas_cumprod.max():g} in the scheduler "
            "configuration, expected them between 0 and 1; check its betas"
        )
    return alphas_cumprod


def _linspace(start: float, end: float, count: int) -> np.ndarray:
    """What ``torch.linspace`` makes in float32, to the last bit: steps from both ends, each rounded once."""
    first, last = np.float32(start), np.float32(end)
    step = np.float64((last - first) / np.float32(max(count - 1, 1)))
    index = np.arange(count)
    ends = np.where(index < count // 2, first + step * index, last - step * (count - 1 - index))
    return ends.astype(np.float32)


def _cosine_betas(trained: int, largest: float = 0.999) -> np.ndarray:
    """The betas of Improved DDPM, Nichol & Dhariwal 2021, formula 17."""

    def alpha_bar(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    ratios = (alpha_bar((i + 1) / trained) / alpha_bar(i / trained) for i in range(trained))
    return np.array([min(1 - ratio, largest) for ratio in ratios], np.float32)


def _rescale_to_zero_snr(betas: np.ndarray) -> np.ndarray:
    """The betas without signal at the last timestep: Lin et al. 2024 (arXiv 2305.08891), algorithm 1."""
    root = np.sqrt(np.cumprod((ONE - betas).astype(np.float64)).astype(np.float32))
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    alphas_cumprod = root**2
    return ONE - np.concatenate([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])


def _timesteps(config: SchedulerConfig, steps: int) -> np.ndarray:
    """The timesteps by their spacing: Lin et al. 2024, table 2."""
    spacing, trained = supported("timestep_spacing", config.timestep_spacing, SPACINGS), config.num_train_timesteps
    if spacing == "linspace":
        return np.linspace(0, trained - 1, steps).round()[::-1].astype(np.int64)
    if spacing == "trailing":
        return np.round(np.arange(trained, 0, -trained / steps)).astype(np.int64) - 1
    leading = (np.arange(steps) * (trained // steps))[::-1].astype(np.int64)
    return leading + config.steps_offset
