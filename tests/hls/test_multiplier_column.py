"""The multiplier column in RTL: right on random digits and weights, and as large as the resource model says."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest
from ditto_zynq.hls.boards import BOARDS
from ditto_zynq.hls.generate import FOLDER
from ditto_zynq.hls.resources import column_luts

SOURCE = FOLDER / "rtl" / "multiplier_column.v"
BENCH = """
module bench;
    reg clk = 0, clear = 0;
    reg [{lanes}*5-1:0] digits;
    reg [{lanes}-1:0] high;
    reg [{lanes}*16-1:0] weights;
    wire signed [31:0] low, upper;
    multiplier_column #(.LANES({lanes}), .SHIFT_FIRST({first})) column(clk, clear, digits, high, weights, low, upper);
    integer file, status;
    initial begin
        file = $fopen("vectors.txt", "r");
        while (!$feof(file)) begin
            status = $fscanf(file, "%b %h %h %h\\n", clear, digits, high, weights);
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


@pytest.mark.parametrize("shift_first", [0, 1])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_sums_of_random_digits(lanes, shift_first, tmp_path):
    rng = np.random.default_rng(lanes + shift_first)
    cycles, latency = 400, 4 + int(np.log2(lanes))  # packing, product, taking apart, the tree, the sum
    digits, high = rng.integers(-16, 16, (cycles, lanes)), rng.integers(0, 2, (cycles, lanes))
    weights = rng.choice([-128, -127, -1, 0, 1, 127], (cycles, lanes, 2))
    clears = np.concatenate([rng.integers(0, 5, cycles) == 0, np.zeros(latency, bool)])
    clears[: latency + 1] = True
    with (tmp_path / "vectors.txt").open("w") as file:
        for cycle in range(cycles):
            fields = pack(digits[cycle], 5), pack(high[cycle], 1), pack(weights[cycle].ravel(), 8)
            file.write(f"{int(clears[cycle])} {' '.join(fields)}\n")
    (tmp_path / "bench.v").write_text(BENCH.format(lanes=lanes, first=shift_first))
    subprocess.run(["iverilog", "-g2005-sv", "-o", "bench", "bench.v", str(SOURCE)], cwd=tmp_path, check=True)
    output = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    found = np.array([[int(value) for value in line.split()] for line in output.splitlines() if "x" not in line])
    products = ((digits * np.where(high, 16, 1))[:, :, None] * weights).sum(axis=1)
    expected, sums = [], np.zeros(2, np.int64)
    for cycle in range(latency - 1, cycles):
        sums = products[cycle - latency + 1] + (0 if clears[cycle] else sums)
        expected.append(sums)
    assert np.array_equal(found[-len(expected) :], expected)


@pytest.mark.parametrize(("board", "family"), [("zcu104", "xcup"), ("pynq-z2", "xc7")])
@pytest.mark.parametrize("lanes", [4, 8])
def test_the_resource_model_is_what_yosys_finds(board, family, lanes, tmp_path):
    shift_first = int(BOARDS[board].zynq_ultrascale)
    script = (
        f"read_verilog {SOURCE}; chparam -set LANES {lanes} -set SHIFT_FIRST {shift_first} multiplier_column; "
        f"synth_xilinx -family {family} -noiopad -noclkbuf -top multiplier_column; tee -o stat.txt stat"
    )
    subprocess.run(["yosys", "-q", "-p", script], cwd=tmp_path, check=True)
    cells = dict(re.findall(r"^\s+(\w+)\s+(\d+)$", (tmp_path / "stat.txt").read_text(), re.MULTILINE))
    luts = sum(int(count) for cell, count in cells.items() if cell.startswith("LUT"))
    assert sum(int(count) for cell, count in cells.items() if cell.startswith("DSP48E")) == lanes
    assert luts == pytest.approx(column_luts(BOARDS[board], lanes), rel=0.05)
