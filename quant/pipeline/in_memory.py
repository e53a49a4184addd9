"""Models and contexts that are given in memory, as quantizing needs them: float32, on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

Contexts = tuple[torch.Tensor, torch.Tensor]


def in_float32(denoiser: nn.Module) -> nn.Module:
    """The model itself where it is float32 on the CPU, else a copy that is. ValueError for one without weights."""
    values = [*denoiser.parameters(), *denoiser.buffers()]
    if any(value.is_meta for value in values):
        raise ValueError("found weights on the meta device, which are none; load the model with its weights")
    if all(value.device.type == "cpu" and value.dtype in (torch.float32, torch.long, torch.bool) for value in values):
        return denoiser
    return copy.deepcopy(denoiser).to("cpu", torch.float32)


def contexts_in_float32(context: Any) -> Contexts | None:
    """Contexts as float32 tensors, whatever floats, tensors or arrays they are. ValueError for anything else."""
    if context is None:
        return None
    if not isinstance(context, (tuple, list)):
        raise ValueError(
            f"found a context of {type(context).__name__}, expected two tensors: of prompts, and of the unguided branch"
        )
    return tuple(_tensor(each) for each in context)  # type: ignore[return-value]


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = torch.from_numpy(value.astype(np.float32))
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        found = getattr(value, "dtype", type(value).__name__)
        raise ValueError(f"found a context of {found}, expected a tensor or an array of floats")
    return value.detach().to("cpu", torch.float32)
