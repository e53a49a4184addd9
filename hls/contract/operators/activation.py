"""Activations: functions of one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ...common.schema import Range
from .. import tables as lut
from ..arithmetic import round_shift
from ..tables import SILU_FRACTION_BITS, interpolate
from ..tensor import Tensor
from .node import Node, Operands, StepTables

FractionBits = Annotated[int, Range(1, SILU_FRACTION_BITS)]


@dataclass(frozen=True)
class SiLU(Node):
    """x * sigmoid(x); input and output have the scale 2**-fraction_bits."""

    fraction_bits: FractionBits = 11

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return silu(operands[0], self.fraction_bits)


@dataclass(frozen=True)
class GELU(Node):
    """x * Phi(x), Phi the normal distribution; input and output have the scale 2**-fraction_bits."""

    fraction_bits: FractionBits = 11

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return gelu(operands[0], self.fraction_bits)


@dataclass(frozen=True)
class ReLU(Node):
    """max(x, 0); input and output have the same scale."""

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return relu(operands[0])


def silu(x: np.ndarray, fraction_bits: int) -> np.ndarray:
    """``x * sigmoid(x)`` for x and result in steps of ``2**-fraction_bits`` (at most 11)."""
    return _gate(x, fraction_bits, lut.SILU_DEFICIT)


def gelu(x: np.ndarray, fraction_bits: int) -> np.ndarray:
    """``x * Phi(x)`` (the exact GELU) for x and result in steps of ``2**-fraction_bits`` (at most 11)."""
    return _gate(x, fraction_bits, lut.GELU_DEFICIT)


def relu(x: np.ndarray, fraction_bits: int = 0) -> np.ndarray:
    """``max(x, 0)``, in whatever steps."""
    return np.maximum(np.asarray(x, np.int64), 0)


def _gate(x: np.ndarray, fraction_bits: int, table: np.ndarray) -> np.ndarray:
    """``max(x, 0) - deficit(|x|)``, the deficit even in x and 0 from 16 on."""
    x = np.asarray(x, np.int64)
    argument = np.abs(x) << (lut.SILU_FRACTION_BITS - fraction_bits)
    inside = argument < 1 << 15
    deficit = interpolate(table, np.where(inside, argument, 0), lut.SILU_STEP_BITS)
    deficit = round_shift(deficit, lut.SILU_ENTRY_BITS - fraction_bits)
    return np.maximum(x, 0) - np.where(inside, deficit, 0)


OPERATORS = (SiLU, GELU, ReLU)
