"""How the emulator executes one descriptor: the base of all kinds.

A descriptor is decoded once into views of device memory; ``run`` reads the step's scalars and vectors from the parameter block,
computes, and returns what it counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ...hls.contract.operators.activation import BY_NUMBER
from ...hls.machine.config import HardwareConfig
from ...hls.machine.forms import Finished, Form, Image
from ...hls.machine.isa import Flag, Region
from ..common.memory import Memory
from ..compute import vector
from ..compute.team import Team
from ..counting.digits import Encoded

F = TypeVar("F", bound=Form)
I = TypeVar("I", bound=Image)  # noqa: E741
D = TypeVar("D", bound=Finished)


@dataclass(frozen=True)
class Slice:
    """A tensor inside a buffer: the first ``channels`` of ``buffer`` [B, P, pitch]."""

    buffer: np.ndarray
    channels: int

    @property
    def dense(self) -> np.ndarray:
        """[B, P, C], a copy where the tensor is part of a wider buffer."""
        return np.ascontiguousarray(self.buffer[:, :, : self.channels])


@dataclass(frozen=True)
class Means:
    """What a program's operations compute with: the accelerator's ``config``, whether they are ``counting`` and really execute
    ``differences``, the ``backend`` of products, and the threads that share a layer."""

    config: HardwareConfig
    counting: bool
    differences: bool
    backend: str
    team: Team


class Execution(ABC, Generic[F]):
    """A decoded descriptor, with views of its operands and its result."""

    def __init__(self, form: F, memory: Memory, means: Means):
        self.form, self.memory, self.means = form, memory, means
        self.set_up()

    @property
    @abstractmethod
    def operands(self) -> tuple[np.ndarray, ...]:
        """The codes or values [B, pixels, C] of the operands."""

    @abstractmethod
    def set_up(self) -> None:
        """Make the views of memory."""

    @abstractmethod
    def run(self, scalars: np.void) -> list[Encoded]:
        """Execute a step, with the record of its scalars."""

    def view(self, offset: int, pitch: int, pixels: int, channels: int, is_code: bool) -> Slice:
        """A tensor in ACTIVATIONS."""
        dtype, shape = np.int8 if is_code else np.int16, (self.form.batch, pixels, pitch)
        return Slice(self.memory.view(Region.ACTIVATIONS, offset, dtype, shape, unused=pitch - channels), channels)

    def vector(self, offset: int, dtype: Any, count: int, per_sample: bool) -> np.ndarray:
        """[1 or B, count] from the parameter block."""
        if not per_sample:
            return self.memory.view(Region.PARAMETERS, offset, dtype, (1, count))
        batch, stride, width = self.form.batch, self.form.sample_stride, count * np.dtype(dtype).itemsize
        raw = self.memory.regions[Region.PARAMETERS][offset : offset + (batch - 1) * stride + width]
        rows = np.lib.stride_tricks.as_strided(raw, (batch, width), (stride, 1))
        return np.ascontiguousarray(rows).view(dtype)


class ImageExecution(Execution[I]):
    """An operation on images: ``input`` and ``output`` are views of them."""

    input: Slice
    output: Slice

    def set_up(self) -> None:
        form = self.form
        self.input = self.view(
            form.input, form.input_pitch, form.input_pixels, form.channels, form.has(Flag.CODE_INPUT)
        )
        self.output = self.view(
            form.output, form.output_pitch, form.output_pixels, form.output_channels, form.has(Flag.CODE_OUTPUT)
        )

    @property
    def operands(self) -> tuple[np.ndarray, ...]:
        return (self.input.dense,)


class FinishedExecution(ImageExecution[D]):
    """An operation of the vector unit that an activation and a quantizer may follow."""

    def quantizer(self, scalars: np.void) -> vector.Quantizer | None:
        """The fused quantizer with the step's scale, if there is one."""
        if not self.form.has(Flag.QUANTIZE):
            return None
        multiplier, shift = int(scalars["quantize_multiplier"]), int(scalars["quantize_shift"])
        return vector.Quantizer(multiplier, shift, self.form.has(Flag.FINE))

    @property
    def activation(self) -> vector.Activation | None:
        """The fused activation, if there is one."""
        if not self.form.activation:
            return None
        return vector.Activation(BY_NUMBER[self.form.activation], self.form.activation_bits)
