"""cocotb: random digits and weights through the RTL blackbox of the multipliers."""

from __future__ import annotations

import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from tests.hls.rtl.blocks import pack, unpack


@cocotb.test(timeout_time=200, timeout_unit="us")
async def sums_of_products(dut):
    """Every cycle other operands; now and then the clock is not enabled. Their sums come so many enabled cycles later."""
    latency, lanes = int(cocotb.plusargs["latency"]), len(dut.digits) // 9
    columns = len(dut.ap_return) // 32
    rng, chance = np.random.default_rng(0), random.Random(0)
    dut.ap_rst.value = 0
    cocotb.start_soon(Clock(dut.ap_clk, 2, "ns").start())
    expected = []
    for cycle in range(600):
        digits = rng.choice([-256, -240, -16, -1, 0, 1, 15, 240], lanes) if cycle % 9 else np.full(lanes, -256)
        weights = rng.integers(-128, 128, (lanes, columns)) if cycle % 9 else np.full((lanes, columns), -128)
        dut.digits.value, dut.weights.value = pack(digits, 9), pack(weights, 8)
        enabled = chance.random() < 0.8
        dut.ap_ce.value = int(enabled)
        await RisingEdge(dut.ap_clk)
        if enabled:
            if len(expected) >= latency:
                assert unpack(int(dut.ap_return.value), 32, columns) == expected[-latency]
            expected.append(tuple((digits @ weights).tolist()))
