"""The multiplier column in RTL: right on random digits and weights, and packed into slices."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from ditto_zynq.hls.build.generate import FOLDER

from tests.hls.rtl.synthesis import Job, synthesize

SOURCE = FOLDER / "rtl" / "multiplier_column.v"
BENCH = """
module bench;
    reg clk = 0, clear = 0;
    reg [{lanes}*9-1:0] digits;
    reg [{lanes}*16-1:0] weights;
    wire signed [31:0] low, upper;
    multiplier_column #(.LANES({lanes}), .GAP({gap}), .CHAIN({chain})) column(clk, 1'b1, clear, digits, weights, low, upper);
    integer file, status;
    initial begin
        file = $fopen("vectors.txt", "r");
        while (!$feof(file)) begin
            status = $fscanf(file, "%b %h %h\\n", clear, digits, weights);
            #1 clk = 1; #1 clk = 0;
            $display("%d %d", low, upper);
        end
        $finish;
    end
endmodule
"""

pytestmark = pytest.mark.rtl


def pack(values: np.ndarray, bits: int) -> str:
    return f"{sum((int(value) & (2**bits - 1)) << (bits * index) for index, value in enumerate(values)):x}"


def late(values: np.ndarray, chain: int) -> np.ndarray:
    """Each lane, axis 1, as many cycles late as it has lanes of its chain before it; zeros first."""
    return np.stack(
        [
            np.concatenate([np.zeros_like(values[: lane % chain, lane]), values[:, lane]])[: len(values)]
            for lane in range(values.shape[1])
        ],
        axis=1,
    )


@pytest.mark.parametrize(("gap", "chain"), [(18, 4), (16, 1)])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_sums_of_random_digits(lanes, gap, chain, tmp_path):
    rng = np.random.default_rng(lanes + chain)
    cycles, latency = 400, 5 + chain  # packing, product, the chain, taking apart, the sum
    digits = rng.choice([-256, -240, -16, -1, 0, 1, 15, 240], (cycles, lanes))
    weights = rng.choice([-128, -127, -1, 0, 1, 127], (cycles, lanes, 2))
    digits[100:110], weights[100:110] = -256, -128  # the largest sums
    clears = np.concatenate([rng.integers(0, 5, cycles) == 0, np.zeros(latency, bool)])
    clears[: latency + 1] = True
    given, weighted = late(digits, chain), late(weights, chain)
    with (tmp_path / "vectors.txt").open("w") as file:
        for cycle in range(cycles):
            file.write(f"{int(clears[cycle])} {pack(given[cycle], 9)} {pack(weighted[cycle].ravel(), 8)}\n")
    (tmp_path / "bench.v").write_text(BENCH.format(lanes=lanes, gap=gap, chain=chain))
    subprocess.run(["iverilog", "-g2005-sv", "-o", "bench", "bench.v", str(SOURCE)], cwd=tmp_path, check=True)
    output = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    found = np.array([[int(value) for value in line.split()] for line in output.splitlines() if "x" not in line])
    products = (digits[:, :, None] * weights).sum(axis=1)
    expected, sums = [], np.zeros(2, np.int64)
    for cycle in range(latency - 1, cycles):
        sums = products[cycle - latency + 1] + (0 if clears[cycle] else sums)
        expected.append(sums)
    assert np.array_equal(found[-len(expected) :], expected)


def test_a_slice_holds_packing_product_and_sum(tmp_path):
    """In a DSP48E1 nothing is left outside. Yosys does not put adders into DSP48E2s, which have the same (UG579)."""
    [used] = synthesize([Job("multiplier_column", {"LANES": 4, "GAP": 16, "CHAIN": 1})], "xc7", tmp_path)
    assert (used.lut_in_slices, used.dsp) == (0, 4)
