"""cocotb: how long random blocks take in a core, whose queues may be deeper or not so deep, for scripts/prove-hardware."""

from __future__ import annotations

import json
from pathlib import Path

import cocotb

from tests.hls.rtl.bench import count_cycles
from tests.hls.rtl.core_bench import CoreBench


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_blocks(dut):
    counted = await count_cycles(CoreBench(dut), 10)
    Path(cocotb.plusargs["cycles"]).write_text(json.dumps(counted))
