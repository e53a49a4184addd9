"""Convolutions and fully connected layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ...common.schema import OneOf
from ..arithmetic import ACCUMULATOR_RANGE, CODE_RANGE, WEIGHT_RANGE, requantize
from ..formats import WEIGHT_BITS, WEIGHT_WIDTHS, signed_range
from ..spatial import chains_of, with_neighbours
from ..table_rule import INT8, INT32, TableRule, shift_rule
from ..tensor import Pad, Tables, Tap, Tensor
from .node import LinearNode, Operands, StepTables, TableAxes

WEIGHT_RANGES = {bits: signed_range(bits) for bits in WEIGHT_WIDTHS}


@dataclass(frozen=True)
class Convolution(LinearNode):
    """Convolution, or fully connected layer where ``kernel`` is (1, 1). Tables: weight, bias, multiplier, shift."""

    weight_table = "weight"

    kernel: tuple[Tap, Tap] = (1, 1)
    stride: tuple[Tap, Tap] = (1, 1)
    padding: tuple[Pad, Pad, Pad, Pad] = (0, 0, 0, 0)  # top, bottom, left, right; padded with code 0
    conditional: bool = False  # the bias is [steps, labels, channels]
    relu: bool = False  # the result is saturated at 0 too
    gated: bool = False  # the multiplier is [steps, labels, channels] (adaLN-Zero: Peebles & Xie 2023, section 3.2)
    weight_bits: Annotated[int, OneOf(tuple(WEIGHT_RANGES))] = WEIGHT_BITS

    def output_shape(self, inputs: Sequence[Tensor], channels: int) -> tuple[int, int, int]:
        height, width, _ = inputs[0].shape
        top, bottom, left, right = self.padding
        rows = (height + top + bottom - self.kernel[0]) // self.stride[0] + 1
        columns = (width + left + right - self.kernel[1]) // self.stride[1] + 1
        if rows < 1 or columns < 1:
            raise ValueError(f"{self.name}: a {self.kernel} kernel does not fit an input of {height}x{width}")
        return rows, columns, channels

    def products_of_a_sum(self, inputs: Sequence[Tensor]) -> int:
        return self.kernel[0] * self.kernel[1] * inputs[0].shape[2]

    def table_rules(self, inputs: list[Tensor], output: Tensor, axes: TableAxes) -> dict[str, TableRule]:
        channels = output.shape[2]
        return {
            "weight": TableRule(
                (INT8,), (channels, *self.kernel, inputs[0].shape[2]), *WEIGHT_RANGES[self.weight_bits]
            ),
            "bias": TableRule((INT32,), axes.rows(self.conditional, channels), *ACCUMULATOR_RANGE),
            "multiplier": TableRule((INT32,), axes.rows(self.gated, channels), *ACCUMULATOR_RANGE),
            "shift": shift_rule(axes.groups),
        }

    def check_tables(self, tables: Tables) -> None:
        check_accumulators(self.name, tables[f"{self.name}.weight"], tables[f"{self.name}.bias"])

    @property
    def depends_on_step(self) -> bool:
        return self.conditional or self.gated

    def products(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return convolve(operands[0], tables.whole("weight"), self.stride, self.padding)

    def products_of_differences(
        self, operands: Operands, before: Operands, tables: StepTables, output: Tensor
    ) -> np.ndarray:
        return self.products((operands[0] - before[0],), tables, output)

    def products_in_chains(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        (codes,), (top, bottom, left, right) = operands, self.padding
        columns = output.shape[1]
        chains = chains_of(self.kernel, self.stride, self.padding, codes.shape[2], columns)
        wide, before = with_neighbours(codes, dataclasses.replace(chains, whole_block=False), 1)
        lead = chains.lead_columns * self.stride[1]
        padding = (top, bottom, left + lead, right)
        sums = convolve(wide - before, tables.whole("weight"), self.stride, padding).cumsum(axis=2)
        return sums[:, :, chains.lead_columns :][:, :, :columns]

    def finish(self, sums: np.ndarray, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        bias = tables.row("bias", self.conditional).astype(np.int64)
        multiplier = tables.row("multiplier", self.gated)
        low, high = output.limits
        return requantize(
            sums + (bias[:, None, None] if self.conditional else bias),
            multiplier[:, None, None] if self.gated else multiplier,
            tables.row("shift"),
            (0 if self.relu else low, high),
        )


def convolve(
    codes: np.ndarray, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> np.ndarray:
    """Accumulators of a convolution: codes [B, H, W, I] (or differences), weight [O, kh, kw, I] -> [B, H', W', O]."""
    top, bottom, left, right = padding
    padded = np.pad(np.asarray(codes, np.int64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, kernel_height, kernel_width, _ = weight.shape
    rows = (padded.shape[1] - kernel_height) // stride[0] + 1
    columns = (padded.shape[2] - kernel_width) // stride[1] + 1
    accumulators = np.zeros((len(codes), rows, columns, len(weight)), np.int64)
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            tap = padded[:, ky : ky + rows * stride[0] : stride[0], kx : kx + columns * stride[1] : stride[1]]
            accumulators += tap @ weight[:, ky, kx].T.astype(np.int64)
    return accumulators


def check_accumulators(name: str, weight: np.ndarray, bias: np.ndarray) -> None:
    """ValueError where a bound of the sums of products leaves int32: a bias's magnitude and that of
    the weights, each times the largest code's."""
    largest = np.abs(bias.astype(np.int64)).reshape(-1, len(weight)).max(axis=0)
    largest_code, largest_weight = -CODE_RANGE[0], -WEIGHT_RANGE[0]
    reach = largest + largest_code * largest_weight * weight[0].size
    if reach.max() > ACCUMULATOR_RANGE[1]:  # a bound that takes no look at the weights; most pass
        magnitudes = np.array([np.abs(row.astype(np.int64)).sum() for row in weight])
        reach = largest + largest_code * magnitudes
    if reach.max() > ACCUMULATOR_RANGE[1]:
        raise ValueError(f"{name}: accumulators may reach {reach.max()}, more than int32 holds")


OPERATORS = (Convolution,)
