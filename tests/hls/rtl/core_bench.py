"""cocotb: random blocks through bench_core.sv."""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tests.hls.rtl.bench import Bench, check_cycles, check_largest_sums, check_random_blocks, check_resets
from tests.hls.rtl.blocks import Block, Lists, compute, pack, random_block, random_lists


class CoreBench(Bench):
    """Operands are digit lists."""

    PUTS = ("entry_put", "count_put")

    def random(self, rng: np.random.Generator, largest: bool = False) -> tuple[Block, Lists]:
        block = random_block(rng, self.shape)
        return block, random_lists(rng, self.shape, block, largest)

    def expected(
        self, block: Block, operand: Lists, weights: np.ndarray
    ) -> tuple[list[tuple[int, tuple[int, ...]]], int]:
        return compute(self.shape, block, operand, weights)

    async def load(self, block: Block, operand: Lists, bank: int) -> None:
        dut, shape, word_bits = self.dut, self.shape, int(self.dut.WORD_BITS.value)
        slot_bits, position_bits = ((depth - 1).bit_length() for depth in (shape.digit_depth, shape.positions))
        for slot in range(block.rows * block.width * block.words):
            entries = (operand.digits[:, :, slot] & 31) | (operand.words[:, :, slot] << 5)
            dut.entry_put.value = (1 << (2 * shape.lanes)) - 1
            dut.put_address.value = pack(np.full(2 * shape.lanes, (bank << slot_bits) | slot), slot_bits + 1)
            dut.entry.value = pack(entries, word_bits + 5)
            position = slot // block.words
            dut.count_put.value = 1
            dut.count_position.value = (bank << position_bits) | position
            dut.count.value = pack(operand.counts[:, :, position], word_bits + 1)
            await RisingEdge(dut.clk)
        dut.entry_put.value = dut.count_put.value = 0


@cocotb.test(timeout_time=200, timeout_unit="us")
async def random_blocks(dut):
    await check_random_blocks(CoreBench(dut, pace=0.7))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def largest_sums(dut):
    """All digits -256, all weights -128, in every lane: the packed products are at the end of their range."""
    await check_largest_sums(CoreBench(dut))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def resets(dut):
    await check_resets(CoreBench(dut, pace=0.9))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def cycles(dut):
    await check_cycles(CoreBench(dut))
