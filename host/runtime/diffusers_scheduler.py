"""A diffusers scheduler with the interface of the runtime's own: for costs of models whose schedule only diffusers has."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import SchedulerMixin

from ...hls.artefact.model import QuantizedModel
from ...hls.artefact.rule import check_rule
from ...hls.artefact.scheduler_config import takes_variance
from ...hls.common.explained import explained
from .schedulers import check_timesteps


def load_scheduler(artefact: QuantizedModel) -> SchedulerMixin:
    """The scheduler of diffusers that the model is quantized for, set to its steps. ValueError where this release has none of its
    class, or one that cannot run the schedule or steps in another way."""
    name, steps = artefact.scheduler.get("_class_name"), artefact.quantization["steps"]
    kind: Any = getattr(diffusers, str(name), None)
    advice = "quantize the model again, or install another diffusers"
    is_scheduler = isinstance(kind, type) and issubclass(kind, SchedulerMixin)
    if not is_scheduler:
        raise ValueError(
            f"found scheduler class {name!r}, which diffusers {diffusers.__version__} does not have; {advice}"
        )
    with explained(f"{name} of diffusers {diffusers.__version__} does not take the model's {steps} steps", advice):
        scheduler = kind.from_config(dict(artefact.scheduler))
        scheduler.set_timesteps(steps)
    check_rule(artefact.quantization, scheduler)
    check_timesteps(scheduler.timesteps.tolist(), artefact.timesteps)
    return scheduler


class DiffusersScheduler:
    """diffusers' scheduler of a model as a :class:`.schedulers.Sampler`. Samples are float64 arrays [B, ...]. A run begins with
    ``initial``; the noise of a sample's steps depends on its first."""

    def __init__(self, artefact: QuantizedModel):
        self._scheduler: Any = load_scheduler(artefact)
        self._steps = artefact.quantization["steps"]
        self._randomness: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._scheduler.timesteps)

    def needs_noise(self, index: int) -> bool:
        """Never: diffusers' schedulers draw their own noise."""
        return False  # it draws its own

    def initial(self, noise: np.ndarray) -> np.ndarray:
        """The sample that a run begins with, of standard normal ``noise``; what the scheduler kept of another run is gone."""
        self._scheduler.set_timesteps(self._steps)
        if "generator" in inspect.signature(self._scheduler.step).parameters:
            seeds = [int.from_bytes(hashlib.sha256(one.tobytes()).digest()[:4], "little") for one in noise]
            self._randomness = {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
        return noise * float(self._scheduler.init_noise_sigma)

    def scaled(self, sample: np.ndarray, index: int) -> np.ndarray:
        """What the model is asked in step ``index``."""
        asked = self._scheduler.scale_model_input(torch.from_numpy(sample), self._scheduler.timesteps[index])
        return np.asarray(asked, np.float64)

    def step(self, output: np.ndarray, index: int, sample: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """The sample [B, ...] after step ``index``, given the model's ``output`` [B, ...], with its variance where the scheduler
        takes one."""
        if not takes_variance(type(self._scheduler).__name__, self._scheduler.config):
            output = output[:, : sample.shape[1]]
        given = torch.from_numpy(output), self._scheduler.timesteps[index], torch.from_numpy(sample)
        return np.asarray(self._scheduler.step(*given, **self._randomness).prev_sample, np.float64)
