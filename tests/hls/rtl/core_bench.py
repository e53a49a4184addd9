"""cocotb: random blocks through bench_core.sv, with interruptions; every sum is compared."""

from __future__ import annotations

import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from tests.hls.rtl.blocks import Block, Lists, Shape, compute, pack, random_block, unpack

FILL = 40  # cycles of an empty core from a block to its first sum, at most


class Bench:
    """Drives the memories and the core, and collects sums. ``pace``: how often the core may go on in a cycle."""

    def __init__(self, dut, pace: float = 1.0, seed: int = 0):
        names = ("LANES", "OC_TILE", "DIGIT_DEPTH", "POSITIONS", "WEIGHT_DEPTH", "ACCUMULATOR_DEPTH", "WORD_BITS")
        self.dut, self.pace, self.random = dut, pace, random.Random(seed)
        self.shape = Shape(*(int(getattr(dut, name).value) for name in names))
        self.sums: list[tuple[int, int, tuple[int, ...]]] = []
        self.done: list[int] = []  # in which cycle each block was
        self.cycle = 0

    async def start(self) -> None:
        dut = self.dut
        for name in ("entry_put", "count_put", "weight_put", "block_valid", "enable"):
            getattr(dut, name).value = 0
        dut.reset.value = 1
        cocotb.start_soon(Clock(dut.clk, 2, "ns").start())
        await self.wait(3)
        dut.reset.value = 0
        dut.enable.value = 1
        cocotb.start_soon(self._watch())

    async def wait(self, cycles: int) -> None:
        for _ in range(cycles):
            await RisingEdge(self.dut.clk)

    async def _watch(self) -> None:
        dut, shape = self.dut, self.shape
        bits = (shape.accumulator_depth - 1).bit_length()
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if int(dut.enable.value) and not int(dut.reset.value):
                if int(dut.sum_valid.value):
                    address = int(dut.sum_address.value)
                    values = unpack(int(dut.sum.value), 32, shape.oc_tile)
                    self.sums.append((address >> bits, address & ((1 << bits) - 1), values))
                if int(dut.block_done.value):
                    self.done.append(self.cycle)
            dut.enable.value = int(self.random.random() < self.pace)

    async def reset(self) -> None:
        self.dut.block_valid.value = 0
        self.dut.reset.value = 1
        await self.wait(self.random.randint(1, 3))
        self.dut.reset.value = 0
        self.sums.clear()
        self.done.clear()

    async def load_weights(self, weights: np.ndarray) -> None:
        dut = self.dut
        for lane in range(self.shape.lanes):
            for place in range(self.shape.weight_depth):
                dut.weight_put.value = 1 << lane
                dut.weight_place.value = place
                dut.weight.value = pack(weights[lane, place], 8)
                await RisingEdge(dut.clk)
        dut.weight_put.value = 0

    async def load_lists(self, block: Block, lists: Lists, bank: int) -> None:
        dut, shape = self.dut, self.shape
        slot_bits, position_bits = ((depth - 1).bit_length() for depth in (shape.digit_depth, shape.positions))
        for slot in range(block.rows * block.width * block.words):
            entries = (lists.digits[:, :, slot] & 31) | (lists.words[:, :, slot] << 5)
            dut.entry_put.value = (1 << (2 * shape.lanes)) - 1
            dut.put_address.value = pack(np.full(2 * shape.lanes, (bank << slot_bits) | slot), slot_bits + 1)
            dut.entry.value = pack(entries, shape.word_bits + 5)
            position = slot // block.words
            dut.count_put.value = 1
            dut.count_position.value = (bank << position_bits) | position
            dut.count.value = pack(lists.counts[:, :, position], shape.word_bits + 1)
            await RisingEdge(dut.clk)
        dut.entry_put.value = dut.count_put.value = 0

    async def send(self, block: Block, bank: int) -> None:
        dut = self.dut
        for name, value in (block.fields() | {"block_bank": bank, "block_sums": bank}).items():
            handle = getattr(dut, name)
            handle.value = value & ((1 << len(handle)) - 1)
        dut.block_valid.value = 1
        while True:
            await RisingEdge(dut.clk)
            if int(dut.block_ready.value):
                break
        dut.block_valid.value = 0

    async def run(self, blocks: list[tuple[Block, Lists]]) -> None:
        """All blocks, each into the bank that the last but one has left."""
        for index, (block, lists) in enumerate(blocks):
            while len(self.done) < index - 1:
                await RisingEdge(self.dut.clk)
            await self.load_lists(block, lists, index % 2)
            await self.send(block, index % 2)
        while len(self.done) < len(blocks):
            await RisingEdge(self.dut.clk)

    def check(self, blocks: list[tuple[Block, Lists]], weights: np.ndarray) -> None:
        expected = [
            (index % 2, *sums)
            for index, (block, lists) in enumerate(blocks)
            for sums in compute(self.shape, block, lists, weights)[0]
        ]
        for index, (found, wanted) in enumerate(zip(self.sums, expected, strict=False)):
            assert found == wanted, f"sum {index} of {len(expected)}"
        assert len(self.sums) == len(expected)


def random_weights(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return rng.integers(-128, 128, (shape.lanes, shape.weight_depth, shape.oc_tile))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def random_blocks(dut):
    """Sums of many blocks, one after the other, the core being stopped at random."""
    rng = np.random.default_rng(1)
    bench = Bench(dut, pace=0.7)
    await bench.start()
    weights = random_weights(rng, bench.shape)
    await bench.load_weights(weights)
    blocks = [random_block(rng, bench.shape) for _ in range(40)]
    await bench.run(blocks)
    bench.check(blocks, weights)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def largest_sums(dut):
    """All digits -256, all weights -128, in every lane: the packed products are at the end of their range."""
    rng = np.random.default_rng(2)
    bench = Bench(dut)
    await bench.start()
    weights = np.full((bench.shape.lanes, bench.shape.weight_depth, bench.shape.oc_tile), -128)
    await bench.load_weights(weights)
    blocks = [random_block(rng, bench.shape, densest=True) for _ in range(4)]
    await bench.run(blocks)
    bench.check(blocks, weights)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def resets(dut):
    """A reset in the middle of blocks leaves nothing behind: the same blocks, from the first one, have their sums."""
    rng = np.random.default_rng(3)
    bench = Bench(dut, pace=0.9)
    await bench.start()
    weights = random_weights(rng, bench.shape)
    await bench.load_weights(weights)
    blocks = [random_block(rng, bench.shape) for _ in range(4)]
    for _ in range(10):
        running = cocotb.start_soon(bench.run(blocks))
        await bench.wait(int(rng.integers(1, 600)))
        running.cancel()
        dut.entry_put.value = dut.count_put.value = 0
        await bench.reset()
    await bench.run(blocks)
    bench.check(blocks, weights)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def cycles(dut):
    """Blocks of a bank that stays, back to back, take the cycles of the model and a fill."""
    rng = np.random.default_rng(4)
    bench = Bench(dut)
    await bench.start()
    weights = random_weights(rng, bench.shape)
    await bench.load_weights(weights)
    for _ in range(8):
        block, lists = random_block(rng, bench.shape)
        sums, predicted = compute(bench.shape, block, lists, weights)
        await bench.load_lists(block, lists, 0)
        bench.sums.clear()
        bench.done.clear()
        await bench.send(block, 0)
        began, repeats = bench.cycle, 12
        for _ in range(repeats - 1):
            await bench.send(block, 0)
        while len(bench.done) < repeats:
            await RisingEdge(dut.clk)
        taken = bench.done[-1] - began
        assert [each[1:] for each in bench.sums] == sums * repeats
        dut._log.info("%d cycles, %d predicted", taken, repeats * predicted)
        assert repeats * predicted <= taken <= repeats * predicted * 1.02 + FILL
