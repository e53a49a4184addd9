"""A diffusers scheduler with the interface of the runtime's own: for costs of models whose schedule only diffusers has."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import numpy as np
import torch

from ..hls.artefact import QuantizedModel
from .diffusers import load_scheduler
from .schedulers import check_timesteps


class DiffusersScheduler:
    """Samples are float64 arrays [B, ...]. A run begins with ``initial``; the noise of a sample's steps depends on its first."""

    def __init__(self, artefact: QuantizedModel):
        self._scheduler: Any = load_scheduler(artefact)
        self._steps = artefact.quantization["steps"]
        self._scheduler.set_timesteps(self._steps)
        self._randomness: dict[str, Any] = {}
        check_timesteps(self._scheduler.timesteps.tolist(), artefact.timesteps)

    def __len__(self) -> int:
        return len(self._scheduler.timesteps)

    def needs_noise(self, index: int) -> bool:
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
        """The sample after step ``index``, given the model's ``output``, with its variance where the scheduler takes one."""
        if not str(self._scheduler.config.get("variance_type", "")).startswith("learned"):
            output = output[:, : sample.shape[1]]
        given = torch.from_numpy(output), self._scheduler.timesteps[index], torch.from_numpy(sample)
        return np.asarray(self._scheduler.step(*given, **self._randomness).prev_sample, np.float64)
