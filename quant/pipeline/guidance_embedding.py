"""Guidance that a distilled model takes as an embedding beside the timestep (Meng et al. 2023; LCM, Luo et al. 2023).

Such a U-Net has ``time_cond_proj_dim``; it computes one branch, and is quantized for one guidance scale, whose embedding becomes
part of the time embedding's bias.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import LatentConsistencyModelPipeline
from torch import nn

from .size_embedding import shared

GUIDANCE = 8.5  # what diffusers' pipeline of these models takes if it is not told


def embedded_size(denoiser: nn.Module) -> int | None:
    """The numbers of the guidance embedding that a model takes; None where it takes none."""
    return getattr(denoiser.config, "time_cond_proj_dim", None)


def with_guidance(denoiser: nn.Module, scale: float) -> tuple[nn.Module, list[float]]:
    """A U-Net that always has the embedding of ``scale``, sharing all other weights with ``denoiser``, and that embedding
    [time_cond_proj_dim], which is what pipelines give as ``timestep_cond``."""
    size = embedded_size(denoiser)
    assert size is not None
    embedding = LatentConsistencyModelPipeline.get_guidance_scale_embedding(
        denoiser,  # type: ignore[arg-type]  # it does not look at the pipeline
        torch.tensor([scale - 1.0]),
        size,
    )[0]
    folded = shared(denoiser)
    time: Any = copy.deepcopy(denoiser.time_embedding)
    with torch.no_grad():
        time.linear_1.bias += time.linear_1.weight @ (time.cond_proj.weight @ embedding)
    folded.time_embedding = time
    return folded, embedding.tolist()
