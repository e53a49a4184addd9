"""cocotb: compute_unit.sv from codes to sums, all cores at once: encoders fill one bank of lists while cores empty the other."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from ditto_zynq.hls.build.verilog import constants
from ditto_zynq.hls.machine.config import HardwareConfig

from tests.hls.rtl.bench import power_up, random_weights
from tests.hls.rtl.blocks import compute_dense, random_block
from tests.hls.rtl.core_bench import CoreBench
from tests.hls.rtl.encoder_bench import NEIGHBOUR, PREVIOUS_STEP, EncoderBench, Row, random_row

SHARED = ("clk", "reset", "weight_put", "weight_place", "weight")


class Slice:
    """One core's part of a signal of all cores."""

    def __init__(self, handle, core: int, cores: int, driven: dict[str, int]):
        self.handle, self.driven = handle, driven
        self.width = len(handle) // cores
        self.first = core * self.width

    def __len__(self) -> int:
        return self.width

    @property
    def value(self) -> Any:
        return self.handle.value[self.first + self.width - 1 : self.first]

    @value.setter
    def value(self, value: int) -> None:
        mask = (1 << self.width) - 1
        kept = self.driven.get(self.handle._name, 0) & ~(mask << self.first)
        self.driven[self.handle._name] = kept | (value & mask) << self.first
        self.handle.value = self.driven[self.handle._name]


class CoreView:
    """The unit's ports of one core, by the names that they have in encoding_unit.sv or compute_core.sv."""

    def __init__(self, dut, core: int, config: HardwareConfig, names: dict[str, str], driven: dict[str, int]):
        self._dut, self._core, self._cores, self._names, self._driven = dut, core, config.cores, names, driven
        self._constants = constants(config)

    def __getattr__(self, name: str) -> Any:
        if name in self._constants:
            return type("Parameter", (), {"value": self._constants[name]})
        handle = getattr(self._dut, self._names.get(name, name))
        return handle if name in SHARED or self._cores == 1 else Slice(handle, self._core, self._cores, self._driven)


class Encoder(EncoderBench):
    def _collect(self) -> None:
        """The lists stay inside; only ends of runs are seen."""
        self.done += int(self.dut.run_done.value)


async def run_core(encoder: Encoder, core: CoreBench, weights: np.ndarray, seed: int) -> list:
    """Blocks of one core from codes, and the sums that they should have."""
    rng, expected = np.random.default_rng(seed), []
    for index in range(8):
        bank = index % 2
        block = random_block(rng, core.shape)
        lanes = core.shape.lanes
        channels = block.words * lanes - int(rng.integers(lanes))
        while len(core.done) < index - 1:
            await RisingEdge(core.dut.clk)
        encoder.done, runs, differences = 0, 0, []
        for row in range(block.rows):
            given = random_row(rng, row, block.width, channels)
            differences.append(difference(given))
            runs += await encoder.send(given, bank)
        await encoder.finish(runs)
        await core.send(block, bank)
        padded = np.zeros((block.rows, block.width, block.words * lanes), np.int64)
        padded[:, :, :channels] = differences
        operand = padded.reshape(-1, lanes)
        expected += [(bank, *sums) for sums in sums_of(block, operand, weights)]
    while len(core.done) < 8:
        await RisingEdge(core.dut.clk)
    return expected


def difference(row: Row) -> np.ndarray:
    """Codes minus their references, int64 [pixels, channels]."""
    codes = np.zeros_like(row.codes) if row.outside else row.codes
    references = np.zeros_like(codes)
    if row.reference == PREVIOUS_STEP:
        references = row.previous
    elif row.reference == NEIGHBOUR:
        references[row.distance :] = codes[: max(len(codes) - row.distance, 0)]
    return codes.astype(np.int64) - references


def sums_of(block, operand: np.ndarray, weights: np.ndarray) -> list:
    """With the chains of spatial differences: running sums over a row's windows, or the block's, leading ones included."""
    wide, leads = block.output_width + block.lead_columns, block.lead_columns
    windows, _ = compute_dense(replace(block, output_width=wide), operand, weights)
    values = np.array([sums for _, sums in windows], np.int64).reshape(block.output_rows, wide, -1)
    if block.chained_block:
        values = values.reshape(-1, values.shape[-1]).cumsum(axis=0).reshape(values.shape)
    elif block.chained_row:
        values = values.cumsum(axis=1)
    stored = values[:, leads:].reshape(-1, values.shape[-1])
    return [(block.first_sum + index, tuple(sums)) for index, sums in enumerate(stored.tolist())]


@cocotb.test(timeout_time=2000, timeout_unit="us")
async def from_codes_to_sums(dut):
    config = HardwareConfig.from_json(json.loads(cocotb.plusargs["config"]))
    driven: dict[str, int] = {}
    encoder_names = {"enable": "encoder_enable", "words": "run_words"}
    encoders = [
        Encoder(CoreView(dut, core, config, encoder_names, driven), 0.8, 0.7, core) for core in range(config.cores)
    ]
    cores = [
        CoreBench(CoreView(dut, core, config, {"enable": "core_enable"}, driven), 0.8, core)
        for core in range(config.cores)
    ]
    for bench in (*encoders, *cores):
        bench.attach()
    await power_up(dut)
    weights = random_weights(np.random.default_rng(0), cores[0].shape)
    await cores[0].load_weights(weights)
    running = [
        cocotb.start_soon(run_core(encoder, core, weights, seed))
        for seed, (encoder, core) in enumerate(zip(encoders, cores, strict=True))
    ]
    for core, task in zip(cores, running, strict=True):
        expected = await task
        for index, (found, wanted) in enumerate(zip(core.sums, expected, strict=True)):
            assert found == wanted, f"sum {index}"
