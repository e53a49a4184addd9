"""cocotb: random blocks through bench_dense.sv."""

from __future__ import annotations

from dataclasses import replace

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tests.hls.rtl.bench import Bench, check_cycles, check_largest_sums, check_random_blocks, check_resets
from tests.hls.rtl.blocks import Block, compute_dense, pack, random_block


class DenseBench(Bench):
    """Operands are codes [slots, lanes]."""

    PUTS = ("code_put",)

    def random(self, rng: np.random.Generator, largest: bool = False) -> tuple[Block, np.ndarray]:
        block = replace(random_block(rng, self.shape), lead_columns=0, chained_row=False, chained_block=False)
        size = (block.rows * block.width * block.words, self.shape.lanes)
        return block, np.full(size, -128) if largest else rng.integers(-128, 128, size)

    def expected(
        self, block: Block, operand: np.ndarray, weights: np.ndarray
    ) -> tuple[list[tuple[int, tuple[int, ...]]], int]:
        return compute_dense(block, operand, weights)

    async def load(self, block: Block, operand: np.ndarray, bank: int) -> None:
        dut, slot_bits = self.dut, (self.shape.digit_depth - 1).bit_length()
        for slot, codes in enumerate(operand):
            dut.code_put.value = 1
            dut.put_address.value = (bank << slot_bits) | slot
            dut.put_codes.value = pack(codes, 8)
            await RisingEdge(dut.clk)
        dut.code_put.value = 0


@cocotb.test(timeout_time=200, timeout_unit="us")
async def random_blocks(dut):
    await check_random_blocks(DenseBench(dut, pace=0.7))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def largest_sums(dut):
    """All codes and weights -128: the packed products are at the end of their range."""
    await check_largest_sums(DenseBench(dut))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def resets(dut):
    await check_resets(DenseBench(dut, pace=0.9))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def cycles(dut):
    await check_cycles(DenseBench(dut))
