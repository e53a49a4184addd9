"""The operators of the integer graph, a file each: what they are and, in plain NumPy int64, what they compute.

``run`` of each *is* the specification: slow and obviously right.
"""

from __future__ import annotations

from . import activation, attention, concat, convolution, norm, pair, pool, quantize, softmax, upsample
from .activation import GELU, ReLU, SiLU
from .attention import MatMul
from .concat import Concat
from .convolution import Convolution
from .node import LinearNode, Node, StepTables, TableAxes
from .norm import GroupNorm, LayerNorm, Norm
from .pair import Add, Multiply
from .pool import AveragePool
from .quantize import Quantize
from .softmax import Softmax
from .upsample import Upsample

__all__ = [
    "GELU",
    "Add",
    "AveragePool",
    "Concat",
    "Convolution",
    "GroupNorm",
    "LayerNorm",
    "LinearNode",
    "MatMul",
    "Multiply",
    "Node",
    "Norm",
    "Quantize",
    "ReLU",
    "SiLU",
    "Softmax",
    "StepTables",
    "TableAxes",
    "Upsample",
]

MODULES = (convolution, attention, quantize, pair, norm, activation, softmax, upsample, pool, concat)
OPERATORS: dict[str, type[Node]] = {cls.__name__: cls for module in MODULES for cls in module.OPERATORS}
"""By the names that graphs on disk know them by."""
