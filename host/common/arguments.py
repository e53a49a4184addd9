"""What callers give to a run, checked where all of them pass: TypeError or ValueError in one line, with what was found and what
was expected."""

from __future__ import annotations

import math
import numbers
import operator
import sys
from typing import Any

import numpy as np

from ...hls.common.schema import show
from .limits import LONGEST_DEADLINE_S, MOST_MEMORY_MIB

LARGEST_FLOAT = sys.float_info.max


def integer(what: str, value: Any) -> int:
    """``value`` as Python's integer; TypeError for what is none: text, floats, bools."""
    if isinstance(value, (bool, np.bool_, np.ndarray)) or not hasattr(value, "__index__"):
        raise TypeError(f"found {what} {show(value)} ({type(value).__name__}), expected an integer")
    try:
        return operator.index(value)
    except TypeError as error:  # tensors have the method, whatever is in them
        raise TypeError(f"found {what} of type {type(value).__name__}, expected an integer") from error


def number(what: str, value: Any) -> float:
    """``value`` as Python's float; TypeError for what is no real number, ValueError for NaN and infinity."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"found {what} {show(value)} ({type(value).__name__}), expected a number")
    found = math.inf if isinstance(value, int) and abs(value) > LARGEST_FLOAT else float(value)
    if not math.isfinite(found):
        raise ValueError(f"found {what} {show(value)}, expected a finite number")
    return found


def check_deadline(deadline_s: Any) -> float:
    """Seconds that a step may take, as Python's float. TypeError or ValueError for what no deadline is."""
    found = number("deadline_s", deadline_s)
    if not 0 < found <= LONGEST_DEADLINE_S:
        raise ValueError(f"found deadline_s {found:g}, expected more than 0 and at most {LONGEST_DEADLINE_S:g} seconds")
    return found


def check_memory(memory_mib: Any) -> int | None:
    """MiB of contiguous memory, as Python's integer; None is the board's own. TypeError or ValueError for what no board has."""
    if memory_mib is None:
        return None
    found = integer("memory_mib", memory_mib)
    if not 1 <= found <= MOST_MEMORY_MIB:
        raise ValueError(f"found memory_mib {show(found)}, expected 1 to {MOST_MEMORY_MIB:,}, or None for the board's")
    return found


def real_array(what: str, values: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Values as float64 of ``shape``, where None stands for any number. ValueError for other shapes, and for what is not real or
    not finite: codes would hide it."""
    try:
        found = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of several lengths, tensors without values
        raise ValueError(f"found a {what} that is no array ({type(values).__name__}), expected numbers") from error
    if found.dtype.kind not in "fiu":
        kind = "complex numbers" if found.dtype.kind == "c" else f"{found.dtype} values"
        raise ValueError(f"found {kind} in the {what}, expected finite real ones")
    matches = len(found.shape) == len(shape) and all(
        expected in (size, None) for size, expected in zip(found.shape, shape, strict=True)
    )
    if not matches:
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"found a {what} of shape {found.shape}, expected ({expected})")
    result = found.astype(np.float64, copy=False)
    if not np.isfinite(result).all():
        raise ValueError(f"found NaN or infinity in the {what}, expected finite real ones")
    return result
