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

    @classmethod
    @abstractmethod
    def function(cls, x: np.ndarray, fraction_bits: int) -> np.ndarray:
        """The function of x int64 and its result, both in steps of ``2**-fraction_bits``."""

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return self.function(operands[0], self.fraction_bits)


@dataclass(frozen=True)
class ReLU(Activation):
    """max(x, 0); input and output have the same scale."""

    number = 3

    @classmethod
    def function(cls, x: np.ndarray, fraction_bits: int) -> np.ndarray:
        return np.maximum(np.asarray(x, np.int64), 0)


@dataclass(frozen=True)
class Tabulated(Activation):
    """``max(x, 0) - deficit(|x|)``, by a table with 0 from 16 on; by another one of negative x, if there is one."""

    deficit: ClassVar[np.ndarray]
    negative_deficit: ClassVar[np.ndarray | None] = None

    fraction_bits: FractionBits = 11

    @classmethod
    def function(cls, x: np.ndarray, fraction_bits: int) -> np.ndarray:
        x = np.asarray(x, np.int64)
        argument = np.abs(x) << (lut.ACTIVATION_FRACTION_BITS - fraction_bits)
        inside = argument < 1 << 15
        argument = np.where(inside, argument, 0)
        deficit = interpolate(cls.deficit, argument, lut.ACTIVATION_STEP_BITS)
        if cls.negative_deficit is not None:
            negative = interpolate(cls.negative_deficit, argument, lut.ACTIVATION_STEP_BITS)
            deficit = np.where(x < 0, negative, deficit)
        deficit = round_shift(deficit, lut.ACTIVATION_ENTRY_BITS - fraction_bits)
        return np.maximum(x, 0) - np.where(inside, deficit, 0)


@dataclass(frozen=True)
class SiLU(Tabulated):
    """x * sigmoid(x); input and output have the scale 2**-fraction_bits."""

    number = 1
    deficit = lut.SILU_DEFICIT


@dataclass(frozen=True)
class GELU(Tabulated):
    """x * Phi(x), Phi the normal distribution; input and output have the scale 2**-fraction_bits."""

    number = 2
    deficit = lut.GELU_DEFICIT


@dataclass(frozen=True)
class Mish(Tabulated):
    """x * tanh(softplus(x)) (Misra 2019); input and output have the scale 2**-fraction_bits."""

    number = 4
    deficit = lut.MISH_DEFICIT
    negative_deficit = lut.MISH_NEGATIVE_DEFICIT


OPERATORS = (SiLU, GELU, ReLU, Mish)
BY_NUMBER: dict[int, type[Activation]] = {each.number: each for each in OPERATORS}
