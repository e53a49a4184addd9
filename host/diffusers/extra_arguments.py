"""Arguments of a denoiser's call besides sample, timestep, label and context: those that a quantized model can be given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .tensors import NO_NUMBERS

HARMLESS = {"enable_temporal_attentions": True}  # arguments that may be given
SWALLOWED = ("timestep_cond", "added_cond_kwargs")  # those that a model may be quantized with


def refuse_others(others: dict[str, Any], swallowed: dict[str, Any]) -> None:
    """ValueError for arguments that change what the model computes, and for others than those that it was quantized with."""
    for name, value in others.items():
        if name not in swallowed and not _is_harmless(name, value):
            advice = "masks of ones only" if name.endswith("mask") else "leave it out"
            raise ValueError(f"found {name}, which a quantized model does not support; {advice}")
    for name, expected in swallowed.items():
        if not agrees(others.get(name), expected):
            shown = expected if isinstance(expected, Mapping) else "that of the guidance_scale it was quantized for"
            advice = "leave it out" if expected is None else f"give {shown}, or quantize a model for that"
            raise ValueError(f"found {name} that the model was not quantized for; {advice}")


def _is_harmless(name: str, value: Any) -> bool:
    """Whether an argument is empty, keeps everything (a mask of ones, or zeros to add), or is known to change nothing."""
    if value is None or (isinstance(value, Mapping) and not value):
        return True
    if name.endswith("mask") and isinstance(value, torch.Tensor) and value.device.type != "meta":
        return bool((value == (1 if value.ndim == 2 else 0)).all())
    return isinstance(value, bool) and value == HARMLESS.get(name)


def agrees(value: Any, expected: Any) -> bool:
    """Whether all samples are given what the model has swallowed, which is numbers by name, numbers, or None."""
    if isinstance(value, Mapping) and (expected is None or isinstance(expected, Mapping)):
        wanted = expected or dict.fromkeys(value)
        return wanted.keys() == value.keys() and all(agrees(value[name], wanted[name]) for name in value)
    if value is None or expected is None or isinstance(expected, Mapping):
        return value is expected
    try:
        rows = torch.as_tensor(value).cpu()
    except NO_NUMBERS:
        return False
    if rows.is_complex():
        return False
    rows = rows.double()
    numbers = torch.tensor(expected, dtype=torch.float64)
    return rows.shape[-1:] == numbers.shape and bool(torch.isclose(rows, numbers, rtol=1e-3, atol=1e-3).all())
