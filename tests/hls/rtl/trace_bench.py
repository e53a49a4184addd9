"""cocotb: pixels through encoder, lists, queues and multipliers of a compute_unit.sv with one core, for timeline.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ReadOnly, RisingEdge
from ditto_zynq.hls.machine.config import HardwareConfig

from tests.hls.rtl.bench import power_up, random_weights
from tests.hls.rtl.blocks import HIGH, LOW, Block
from tests.hls.rtl.core_bench import CoreBench
from tests.hls.rtl.encoder_bench import PREVIOUS_STEP, Row, encode
from tests.hls.rtl.unit_bench import CoreView, Encoder, difference, sums_of

PIXELS, WORDS = 6, 3


def sparse_row(rng: np.random.Generator, lanes: int) -> Row:
    """Differences as they are late in denoising: many zeros, few that need two digits."""
    shape = (PIXELS, WORDS * lanes)
    previous = rng.integers(-80, 80, shape)
    change = rng.choice([0, 1, -3, 7, 40], shape, p=[0.45, 0.2, 0.15, 0.1, 0.1])
    return Row(0, PIXELS, PREVIOUS_STEP, False, 1, previous + change, previous, (0, PIXELS))


class Trace:
    """Events (cycle, pixel) by the name of the row that they are drawn in, and how many digits wait in each lane's queue."""

    def __init__(self, dut, core: Any, counts: np.ndarray):
        self.dut, self.core, self.counts = dut, core, counts  # digits of each pixel, [pixels, lanes]
        self.events: dict[str, list[tuple[int, int]]] = {}
        self.waiting: list[list[int]] = []
        self.cycle, self.started = 0, -1

    def add(self, name: str, pixel: int) -> None:
        self.events.setdefault(name, []).append((self.cycle, pixel))

    def seen(self, name: str) -> int:
        return len(self.events.get(name, []))

    async def watch(self) -> None:
        inside, ends = self.core.core, self.counts.cumsum(axis=0)
        lanes = self.counts.shape[1]
        while True:
            await RisingEdge(self.dut.clk)
            await ReadOnly()
            self.cycle += 1
            if int(self.dut.reset.value):
                continue
            if int(self.core.encoder.flows.value):
                self.add("encode", self.seen("encode") // WORDS)
            if int(self.core.count_put.value):
                self.add("list written", self.seen("list written"))
            if int(inside.tap_put.value):
                self.add("tap", self.seen("tap"))
            for lane in range(lanes):
                if int(self.core.entry_read.value) >> lane & 1:
                    name = f"read {lane}"
                    self.add(name, int(np.searchsorted(ends[:, lane], self.seen(name), side="right")))
                if int(inside.token_take.value) >> lane & 1:
                    self.add(f"multiply {lane}", self.started)
            if int(inside.fire.value):
                self.add("busy", self.started)
            self.started += int(inside.start.value)
            if int(self.dut.sum_valid.value):
                self.add("sums", self.seen("sums"))
            self.waiting.append([int(inside.lanes[lane].lane.tokens.count.value) for lane in range(lanes)])


@cocotb.test(timeout_time=20, timeout_unit="us")
async def follow_pixels(dut):
    config = HardwareConfig.from_json(json.loads(cocotb.plusargs["config"]))
    driven: dict[str, int] = {}
    encoder = Encoder(CoreView(dut, 0, config, {"enable": "encoder_enable", "words": "run_words"}, driven))
    core = CoreBench(CoreView(dut, 0, config, {"enable": "core_enable"}, driven))
    rng = np.random.default_rng(5)
    row = sparse_row(rng, config.lanes)
    _, found = encode(row, config.lanes)
    counts = [
        [found[lane, LOW, pixel] + found[lane, HIGH, pixel] for lane in range(config.lanes)] for pixel in range(PIXELS)
    ]
    trace = Trace(dut, dut.cores[0], np.array(counts))
    for bench in (encoder, core):
        bench.attach()
    await power_up(dut)
    weights = random_weights(rng, core.shape)
    await core.load_weights(weights)
    cocotb.start_soon(trace.watch())
    runs = await encoder.send(row)
    await encoder.finish(runs)
    block = Block(1, PIXELS, 0, 0, 0, 1, PIXELS, 1, 1, 1, 1, 0, False, False, WORDS, 0)
    await core.send(block, 0)
    while not core.done:
        await RisingEdge(dut.clk)
    assert core.sums == [(0, *sums) for sums in sums_of(block, difference(row).reshape(-1, config.lanes), weights)]
    found = {"events": trace.events, "waiting": trace.waiting, "digits": counts}
    Path(cocotb.plusargs["trace"]).write_text(json.dumps(found))
