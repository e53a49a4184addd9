"""Activations: functions of one value."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from ...common.schema import Range
from .. import tables as lut
from ..arithmetic import round_shift
from ..tables import ACTIVATION_FRACTION_BITS, interpolate
from ..tensor import Tensor
from .node import Node, Operands, StepTables

FractionBits = Annotated[int, Range(1, ACTIVATION_FRACTION_BITS)]


class Activation(Node):
    """A function of one value; ``number`` stands for it in descriptors, where 0 is none."""

    number: ClassVar[int]
    fraction_bits: int = 0  # of operand and result, where a table gives the function

    @staticmethod
    @abstractmethod
    def function(x: np.ndarray, fraction_bits: int) -> np.ndarray:
        """The function of x int64 and its result, both in steps of ``2**-fraction_bits``."""

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return self.function(operands[0], self.fraction_bits)


@dataclass(frozen=True)
class SiLU(Activation):
    """x * sigmoid(x); input and output have the scale 2**-fraction_bits."""

    number = 1

    fraction_bits: FractionBits = 11

    @staticmethod
    def function(x: np.ndarray, fraction_bits: int) -> np.ndarray:
        return silu(x, fraction_bits)


@dataclass(frozen=True)
class GELU(Activation):
    """x * Phi(x), Phi the normal distribution; input and output have the scale 2**-fraction_bits."""

    number = 2

    fraction_bits: FractionBits = 11

    @staticmethod
    def function(x: np.ndarray, fraction_bits: int) -> np.ndarray:
        return gelu(x, fraction_bits)


@dataclass(frozen=True)
class ReLU(Activation):
    """max(x, 0); input and output have the same scale."""

    number = 3

    @staticmethod
    def function(x: np.ndarray, fraction_bits: int) -> np.ndarray:
        return relu(x)


@dataclass(frozen=True)
class Mish(Activation):
    """x * tanh(softplus(x)) (Misra 2019); input and output have the scale 2**-fraction_bits."""

    number = 4

    fraction_bits: FractionBits = 11

    @staticmethod
    def function(x: np.ndarray, fraction_bits: int) -> np.ndarray:
        return mish(x, fraction_bits)


def silu(x: np.ndarray, fraction_bits: int) -> np.ndarray:
    """``x * sigmoid(x)`` for x and result in steps of ``2**-fraction_bits`` (at most 11)."""
    return _gate(x, fraction_bits, lut.SILU_DEFICIT)


def gelu(x: np.ndarray, fraction_bits: int) -> np.ndarray:
    """``x * Phi(x)`` (the exact GELU) for x and result in steps of ``2**-fraction_bits`` (at most 11)."""
    return _gate(x, fraction_bits, lut.GELU_DEFICIT)


def mish(x: np.ndarray, fraction_bits: int) -> np.ndarray:
    """``x * tanh(softplus(x))`` for x and result in steps of ``2**-fraction_bits`` (at most 11)."""
    return _gate(x, fraction_bits, lut.MISH_DEFICIT, lut.MISH_NEGATIVE_DEFICIT)


def relu(x: np.ndarray, fraction_bits: int = 0) -> np.ndarray:
    """``max(x, 0)``, in whatever steps."""
    return np.maximum(np.asarray(x, np.int64), 0)


def _gate(x: np.ndarray, fraction_bits: int, table: np.ndarray, negative: np.ndarray | None = None) -> np.ndarray:
    """``max(x, 0) - deficit(|x|)``, the deficit by ``table``, or by ``negative`` where x is, and 0 from 16 on."""
    x = np.asarray(x, np.int64)
    argument = np.abs(x) << (lut.ACTIVATION_FRACTION_BITS - fraction_bits)
    inside = argument < 1 << 15
    argument = np.where(inside, argument, 0)
    deficit = interpolate(table, argument, lut.ACTIVATION_STEP_BITS)
    if negative is not None:
        deficit = np.where(x < 0, interpolate(negative, argument, lut.ACTIVATION_STEP_BITS), deficit)
    deficit = round_shift(deficit, lut.ACTIVATION_ENTRY_BITS - fraction_bits)
    return np.maximum(x, 0) - np.where(inside, deficit, 0)


OPERATORS = (SiLU, GELU, ReLU, Mish)
BY_NUMBER: dict[int, type[Activation]] = {each.number: each for each in OPERATORS}
