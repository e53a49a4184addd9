"""Arrays of a safetensors file, mapped instead of read (:func:`safetensors.numpy.load_file` would read it all)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..common.limits import LARGEST_HEADER
from .folder import ArtefactError

TYPES = {
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F32": np.float32,
    "F64": np.float64,
    "U8": np.uint8,
}


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Every array of the file, by name. ArtefactError where its list of arrays and its bytes do not agree."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            if length > LARGEST_HEADER:
                raise ValueError(f"a header of {length} bytes, expected at most {LARGEST_HEADER}")
            content = raw.read(length)
        with safe_open(path, "np") as file:  # checks the header
            names = list(file.keys())
        header = json.loads(content)
        mapped = np.memmap(path, np.uint8, "r") if names else np.zeros(0, np.uint8)
        return {name: _mapped(mapped, header[name], 8 + length) for name in names}
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise ArtefactError(
            f"{path} is not readable safetensors ({error}); copy or quantize the model again"
        ) from error


def _mapped(file: np.ndarray, entry: Mapping[str, Any], start: int) -> np.ndarray:
    if entry["dtype"] not in TYPES:
        raise ValueError(f"found type {entry['dtype']}, expected one of {', '.join(TYPES)}")
    first, end = entry["data_offsets"]
    dtype = np.dtype(TYPES[entry["dtype"]]).newbyteorder("<")
    raw = file[start + first : start + end]
    aligned = raw if raw.ctypes.data % dtype.itemsize == 0 else raw.copy()
    return np.asarray(aligned).view(dtype).reshape(entry["shape"])
