"""Yosys's synthesis of the RTL, by pyosys: what a module and all that it contains takes of UltraScale+ (xcup) or 7 series (xc7).

For xcup Yosys leaves accumulators outside of the DSP slices, so LUTs and flip-flops are an upper bound; for xc7 it packs them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ditto_zynq.hls.verilog import SOURCES

FAMILIES = ("xcup", "xc7")
LUT_OF_MEMORY = {  # LUTs that a distributed RAM takes (UG574, UG474), by the name of the primitive
    "RAM32X1D": 2, "RAM32M": 4, "RAM32M16": 8, "RAM64M": 4, "RAM64M8": 8, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
    "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8, "SRL16E": 1, "SRLC32E": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Used:
    """LUTs, those of distributed memories and shift registers among them, flip-flops, DSP slices, 18 Kb block RAMs, UltraRAMs."""

    lut: int
    ff: int
    dsp: int
    bram18: int
    uram: int

    @staticmethod
    def of(cells: dict[str, int]) -> Used:
        lut = sum(count for name, count in cells.items() if re.fullmatch(r"LUT[1-6](_2)?", name))
        return Used(
            lut + sum(count * LUT_OF_MEMORY.get(name, 0) for name, count in cells.items()),
            sum(count for name, count in cells.items() if name.startswith("FD")),
            sum(count for name, count in cells.items() if name.startswith("DSP48")),
            sum(count * (2 if "36" in name else 1) for name, count in cells.items() if name.startswith("RAMB")),
            sum(count for name, count in cells.items() if name.startswith("URAM")),
        )


def synthesize(module: str, parameters: dict[str, int], family: str, folder: Path) -> Used:
    """``parameters`` of ``module``; in a process of its own, for Yosys keeps what it has read. ``folder`` is for its files."""
    folder.mkdir(parents=True, exist_ok=True)
    given = " ".join(f"-set {name} {value}" for name, value in parameters.items())
    passes = [f"read_verilog -sv {source}" for source in SOURCES if source.stem != "compute_unit"]
    passes += [f"chparam {given} {module}"] if parameters else []
    passes += [
        f"synth_xilinx -family {family} -noiopad -noclkbuf -top {module}",
        f"tee -q -o {folder / 'cells.json'} stat -json",
    ]
    script = "\n".join(
        ["from pyosys import libyosys as yosys", "design = yosys.Design()"]
        + [f"yosys.run_pass({each!r}, design)" for each in passes]
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder)
    if result.returncode:
        raise RuntimeError(f"Yosys failed on {module} {parameters}: {(result.stdout + result.stderr)[-1000:]}")
    found = json.loads((folder / "cells.json").read_text())["design"]
    return Used.of(Counter(found["num_cells_by_type"]))
