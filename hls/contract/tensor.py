"""The edges of the integer graph, and the types of what its fields may be.

Tensors are NHWC per sample: ``shape`` is (height, width, channels); tokens are (height, width) pixels of their image, and
attention's logits and probabilities are (heads, queries, keys). A ``code`` is an int8 operand of a linear operator, a
``value`` an int16 between linear operators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from ..common.limits import LARGEST_DIMENSION, LARGEST_TAP
from ..common.schema import Name, OneOf, Range
from .arithmetic import CODE_RANGE, VALUE_RANGE
from .formats import CODE_BITS, VALUE_BITS

CODE, VALUE = "code", "value"
DTYPES: dict[str, np.dtype[Any]] = {CODE: np.dtype(f"int{CODE_BITS}"), VALUE: np.dtype(f"int{VALUE_BITS}")}
LIMITS = {CODE: CODE_RANGE, VALUE: VALUE_RANGE}
Tables = Mapping[str, np.ndarray]
Size = Annotated[int, Range(1, LARGEST_DIMENSION)]
Tap = Annotated[int, Range(1, LARGEST_TAP)]
Pad = Annotated[int, Range(0, LARGEST_TAP)]
Shape = tuple[Size, Size, Size]


@dataclass(frozen=True)
class Tensor:
    """One edge of the graph: ``kind`` is "code" (int8) or "value" (int16), ``shape`` (height, width, channels)."""

    name: Name
    kind: Annotated[str, OneOf((CODE, VALUE))]
    shape: Shape

    @property
    def size(self) -> int:
        """Elements per sample."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return DTYPES[self.kind]

    @property
    def limits(self) -> tuple[int, int]:
        """Its smallest and its largest element."""
        return LIMITS[self.kind]
