"""Random numbers that depend on a seed and on a number of what they are for, and on nothing else."""

from __future__ import annotations

import torch


def generator_of(seed: int, index: int, stride: int = 1_000_003) -> torch.Generator:
    """The generator of thing ``index`` (a step, a run) under ``seed``, both from 0 on; whatever ran before it."""
    return torch.Generator().manual_seed((seed * stride + index) % 2**64)
