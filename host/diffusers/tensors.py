"""What a pipeline gives to the drop-in, as numbers: TypeError or ValueError in one line for what holds none. Needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...hls.common.schema import show

NO_NUMBERS = (TypeError, ValueError, RuntimeError, OverflowError)  # what torch raises for what makes no tensor


def tensor_of(what: str, given: Any) -> torch.Tensor:
    """A dense tensor on the CPU, without gradients. TypeError for what is no tensor, ValueError for one without values."""
    if not isinstance(given, torch.Tensor):
        raise TypeError(f"found {what} of type {type(given).__name__}, expected a torch.Tensor")
    if given.device.type == "meta" or given.layout != torch.strided:
        where = "on the meta device" if given.device.type == "meta" else f"of layout {given.layout}"
        raise ValueError(f"found {what} {where}, expected a dense tensor that holds its values")
    return given.detach().cpu()


def values_of(what: str, given: Any) -> np.ndarray:
    """The values float64 of a tensor of any floating-point type. TypeError or ValueError for others, and for values that are not
    finite."""
    tensor = tensor_of(what, given)
    if not tensor.is_floating_point():
        raise ValueError(f"found {what} of {tensor.dtype}, expected finite floating-point numbers")
    values = tensor.double().numpy()
    if not np.isfinite(values).all():
        where = what.replace("a ", "the ", 1) if what.startswith("a ") else what
        raise ValueError(f"found NaN or infinity in {where}, expected finite floating-point numbers")
    return values


def list_of(what: str, given: Any, expected: str) -> torch.Tensor:
    """Real numbers [n] of a number, a sequence, an array or a tensor of any shape. ValueError, with what was ``expected``, for
    others."""
    try:
        tensor = tensor_of(what, torch.as_tensor(given)).reshape(-1)
    except NO_NUMBERS as error:
        shown = f"a tensor on the {given.device} device" if isinstance(given, torch.Tensor) else show(given)
        raise ValueError(f"found {what} {shown}, expected {expected}") from error
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"found {what} of {tensor.dtype}, expected {expected}")
    return tensor
