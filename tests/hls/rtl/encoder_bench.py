"""cocotb: random runs of codes through encoding_unit.sv, whose inputs come late; every list is compared."""

from __future__ import annotations

import random
from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tests.hls.rtl.bench import power_up
from tests.hls.rtl.blocks import HIGH, LOW, pack

NONE, PREVIOUS_STEP, NEIGHBOUR = range(3)


@dataclass(frozen=True)
class Row:
    """A row of encoded pixels, in runs: ``codes`` and, with a previous step, ``previous`` int8 [pixels, channels]."""

    row: int
    width: int
    reference: int
    outside: bool
    distance: int
    codes: np.ndarray
    previous: np.ndarray
    cuts: tuple[int, ...]  # where runs begin and end


def random_row(rng: np.random.Generator, row: int, width: int, channels: int) -> Row:
    def some_codes() -> np.ndarray:
        ends = rng.choice([-128, 127, 0], (width, channels))
        return np.where(rng.random((width, channels)) < 0.3, ends, rng.integers(-128, 128, (width, channels)))

    reference = int(rng.integers(3))
    codes = some_codes()
    previous = codes + rng.choice([0, 0, 1, -3, 20], codes.shape) if rng.integers(2) else some_codes()
    cuts = sorted({0, width, *rng.integers(0, width + 1, 2).tolist()})
    return Row(
        row,
        width,
        reference,
        bool(rng.integers(4) == 0),
        int(rng.integers(1, 4)),
        codes,
        previous.clip(-128, 127),
        tuple(cuts),
    )


def encode(row: Row, lanes: int) -> tuple[dict, dict]:
    """Entries and counts that the row's lists get, by their addresses (lane, half, slot) and (lane, half, position)."""
    width, channels = row.codes.shape
    words = -(-channels // lanes)
    codes = np.zeros_like(row.codes) if row.outside else row.codes
    references = np.zeros_like(codes)
    if row.reference == PREVIOUS_STEP:
        references = row.previous
    elif row.reference == NEIGHBOUR:
        references[row.distance :] = codes[: max(width - row.distance, 0)]
    entries, counts = {}, {}
    for pixel in range(width):
        position = row.row * width + pixel
        for lane, half in np.ndindex(lanes, 2):
            found = 0
            for word in range(words):
                channel = word * lanes + lane
                difference = int(codes[pixel, channel] - references[pixel, channel]) if channel < channels else 0
                narrow = -16 <= difference <= 15
                digits = {LOW: difference if narrow else difference & 15, HIGH: 0 if narrow else difference >> 4}
                if digits[half]:
                    entries[lane, half, position * words + found] = (word << 5) | (digits[half] & 31)
                    found += 1
            counts[lane, half, position] = found
    return entries, counts


class EncoderBench:
    """``pace``: how often the unit may go on; ``supply``: how often a memory word is there, both in a cycle."""

    def __init__(self, dut, pace: float = 1.0, supply: float = 1.0, seed: int = 0):
        self.dut, self.pace, self.supply, self.random = dut, pace, supply, random.Random(seed)
        names = ("LANES", "BUS_BYTES", "DIGIT_DEPTH", "POSITIONS", "WORD_BITS")
        self.lanes, self.bus, digit_depth, positions, self.word_bits = (int(getattr(dut, name).value) for name in names)
        self.slot_bits, self.position_bits = (digit_depth - 1).bit_length(), (positions - 1).bit_length()
        self.queues: dict[str, list[int]] = {"current": [], "previous": []}
        self.entries: dict = {}
        self.counts: dict = {}
        self.done = self.cycle = 0

    async def start(self) -> None:
        self.attach()
        await power_up(self.dut)

    def attach(self) -> None:
        """Drives all inputs from now on, and collects what comes out."""
        for name in ("run_valid", "current_valid", "previous_valid"):
            getattr(self.dut, name).value = 0
        self.dut.enable.value = 1
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            for name, queue in self.queues.items():
                taken = int(getattr(dut, f"{name}_valid").value) and int(getattr(dut, f"{name}_ready").value)
                if taken and queue:  # a reset empties them
                    queue.pop(0)
            if int(dut.enable.value) and not int(dut.reset.value):
                self._collect()
            for name, queue in self.queues.items():
                there = bool(queue) and self.random.random() < self.supply
                getattr(dut, f"{name}_valid").value = int(there)
                getattr(dut, name).value = queue[0] if there else 0
            dut.enable.value = int(self.random.random() < self.pace)

    def _collect(self) -> None:
        dut = self.dut
        put = int(dut.entry_put.value)
        if put:
            address, entry = int(dut.put_address.value), int(dut.entry.value)
            for index in range(2 * self.lanes):
                if put >> index & 1:
                    slot = address >> (index * (self.slot_bits + 1)) & ((1 << self.slot_bits) - 1)
                    bits = self.word_bits + 5
                    self.entries[index // 2, index % 2, slot] = entry >> (index * bits) & ((1 << bits) - 1)
        if int(dut.count_put.value):
            position = int(dut.count_position.value) & ((1 << self.position_bits) - 1)
            bits = self.word_bits + 1
            for index in range(2 * self.lanes):
                found = int(dut.count.value) >> (index * bits) & ((1 << bits) - 1)
                self.counts[index // 2, index % 2, position] = found
        self.done += int(dut.run_done.value)

    async def send(self, row: Row, bank: int = 0) -> int:
        """The row's runs, of which there are as many as are returned; the memory words are queued first."""
        dut = self.dut
        channels, runs = row.codes.shape[1], 0
        words = -(-channels // self.lanes)
        for first, end in zip(row.cuts, row.cuts[1:], strict=False):
            if not row.outside:
                self._queue("current", row.codes[first:end])
            if row.reference == PREVIOUS_STEP:
                self._queue("previous", row.previous[first:end])
            position, phase = row.row * row.width + first, first % row.distance
            fields = {
                "run_bank": bank,
                "reference": row.reference,
                "outside": int(row.outside),
                "pixels": end - first,
                "words": words,
                "last_count": channels - (words - 1) * self.lanes,
                "first_position": position,
                "first_slot": position * words,
                "column": first,
                "distance": row.distance,
                "phase": phase,
                "row_neighbours": row.row * row.distance * words,
                "phase_neighbours": phase * words,
            }
            for name, value in fields.items():
                getattr(dut, name).value = value
            dut.run_valid.value = 1
            while True:
                await RisingEdge(dut.clk)
                if int(dut.run_ready.value):
                    break
            dut.run_valid.value = 0
            runs += 1
        return runs

    def _queue(self, name: str, codes: np.ndarray) -> None:
        data = (codes.astype(np.int64) & 255).ravel()
        for first in range(0, len(data), self.bus):
            self.queues[name].append(pack(data[first : first + self.bus], 8))

    async def finish(self, runs: int) -> None:
        while self.done < runs:
            await RisingEdge(self.dut.clk)


async def run_random(dut, seed: int, pace: float, supply: float, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    bench = EncoderBench(dut, pace, supply, seed)
    await bench.start()
    for _ in range(rounds):
        width, channels, rows = int(rng.integers(1, 6)), int(rng.integers(1, 3 * bench.lanes)), int(rng.integers(1, 4))
        bench.entries, bench.counts, bench.done = {}, {}, 0
        entries, counts, runs = {}, {}, 0
        for row in range(rows):
            given = random_row(rng, row, width, channels)
            more_entries, more_counts = encode(given, bench.lanes)
            entries |= more_entries
            counts |= more_counts
            runs += await bench.send(given)
        await bench.finish(runs)
        assert bench.counts == counts
        assert {key: bench.entries[key] for key in entries} == entries


@cocotb.test(timeout_time=200, timeout_unit="us")
async def random_runs(dut):
    await run_random(dut, 1, 1.0, 1.0, 60)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def late_inputs(dut):
    """Memory words that come late, and an encoder that is stopped at random."""
    await run_random(dut, 2, 0.6, 0.5, 60)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def resets(dut):
    """A reset in the middle of a run leaves nothing behind."""
    rng = np.random.default_rng(3)
    bench = EncoderBench(dut)
    await bench.start()
    for _ in range(20):
        given = random_row(rng, 0, 5, 2 * bench.lanes + 1)
        sending = cocotb.start_soon(bench.send(given))
        for _ in range(int(rng.integers(1, 20))):
            await RisingEdge(dut.clk)
        sending.cancel()
        dut.run_valid.value = 0
        dut.reset.value = 1
        for _ in range(3):
            await RisingEdge(dut.clk)
        for queue in bench.queues.values():
            queue.clear()
        await RisingEdge(dut.clk)
        dut.reset.value = 0
        bench.entries, bench.counts, bench.done = {}, {}, 0
        runs = await bench.send(given)
        await bench.finish(runs)
        entries, counts = encode(given, bench.lanes)
        assert bench.counts == counts
        assert {key: bench.entries[key] for key in entries} == entries


@cocotb.test(timeout_time=200, timeout_unit="us")
async def cycles(dut):
    """A word of codes a cycle, whatever the runs and their references."""
    rng = np.random.default_rng(4)
    bench = EncoderBench(dut)
    await bench.start()
    for _ in range(10):
        rows = [random_row(rng, row, 7, 2 * bench.lanes + 1) for row in range(3)]
        began, bench.done = bench.cycle, 0
        runs = 0
        for row in rows:
            runs += await bench.send(row)
        await bench.finish(runs)
        predicted = sum(row.width * 3 for row in rows)
        assert predicted <= bench.cycle - began <= predicted + 10
