"""cocotb: lets bench_layer.sv work through the blocks that are in files; replay.py compares what it writes."""

from __future__ import annotations

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge


@cocotb.test()
async def blocks(dut):
    dut.reset.value = 1
    cocotb.start_soon(Clock(dut.clk, 2, "ns").start())
    await ClockCycles(dut.clk, 4)
    dut.reset.value = 0
    await RisingEdge(dut.finished)
