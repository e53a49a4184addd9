"""Yosys's synthesis of the RTL, by pyosys: what a module and all that it contains takes of UltraScale+ (xcup) or 7 series (xc7).

For xcup Yosys leaves packing, sums and registers of ``multiply_add`` outside of the DSP slices, which have room for them (UG579),
and for xc7 it puts them inside: ``lut_in_slices`` and ``ff_in_slices`` are what a count has too much because of that.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ditto_zynq.hls.build.verilog import SOURCES

SLICE = "multiply_add"
LUT_OF_MEMORY = {  # LUTs that a distributed RAM takes (UG574, UG474), by the name of the primitive
    "RAM32X1D": 2,
    "RAM32M": 4,
    "RAM32M16": 8,
    "RAM64M": 4,
    "RAM64M8": 8,
    "RAM64X1D": 2,
    "RAM128X1D": 4,
    "RAM256X1D": 8,
    "RAM32X1S": 1,
    "RAM64X1S": 1,
    "RAM128X1S": 2,
    "RAM256X1S": 4,
    "RAM512X1S": 8,
    "SRL16E": 1,
    "SRLC32E": 1,
}


@dataclass(frozen=True)
class Used:
    """LUTs, distributed memories and shift registers included, flip-flops, DSP slices, 18 Kb block RAMs, UltraRAMs."""

    lut: int
    ff: int
    dsp: int
    bram18: int
    uram: int
    lut_in_slices: int
    ff_in_slices: int


@dataclass(frozen=True)
class Job:
    """``parameters`` of a module. ``held_out``: no fit has seen it."""

    module: str
    parameters: dict[str, int | str]
    held_out: bool = False


def synthesize(jobs: Sequence[Job], family: str, folder: Path, slices: bool = True) -> list[Used]:
    """All in one run, as instances in a module that is nothing else; each is synthesized by itself, for nothing is flattened.

    ``folder`` is for files; ``slices``: whether products go into DSP slices. The run is a process of its own, for Yosys keeps
    what it has read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.v").write_text(_instances(jobs))
    sources = [source for source in SOURCES if source.stem != "compute_unit"]
    sources += [Path(__file__).with_name("elements.v"), folder / "jobs.v"]
    passes = [f"read_verilog -sv {source}" for source in sources]
    passes += [
        f"synth_xilinx -family {family} -noiopad -noclkbuf {'' if slices else '-nodsp'} -top jobs",
        f"tee -q -o {folder / 'cells.json'} stat -json",
        "select jobs",
        f"write_json -selected {folder / 'jobs.json'}",
    ]
    lines = ["from pyosys import libyosys as yosys", "design = yosys.Design()"]
    lines += [f"yosys.run_pass({each!r}, design)" for each in passes]
    result = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=folder)
    if result.returncode:
        raise RuntimeError(f"Yosys failed: {(result.stdout + result.stderr)[-1000:]}")
    modules = json.loads((folder / "cells.json").read_text())["modules"]
    cells = {name.lstrip("\\"): module["num_cells_by_type"] for name, module in modules.items()}
    [top] = json.loads((folder / "jobs.json").read_text())["modules"].values()
    return [_used(cells, top["cells"][f"job{index}"]["type"]) for index in range(len(jobs))]


def _instances(jobs: Sequence[Job]) -> str:
    lines = []
    for index, job in enumerate(jobs):
        given = ", ".join(f".{name}({value})" for name, value in job.parameters.items())
        lines.append(f"    (* keep *) {job.module} #({given}) job{index}();")
    return "module jobs;\n" + "\n".join(lines) + "\nendmodule\n"


def _used(modules: dict[str, dict[str, int]], name: str) -> Used:
    everything, inside = _primitives(modules, name)
    return Used(
        _luts(everything),
        _flip_flops(everything),
        sum(count for cell, count in everything.items() if cell.startswith("DSP48")),
        sum(count * (2 if "36" in cell else 1) for cell, count in everything.items() if cell.startswith("RAMB")),
        sum(count for cell, count in everything.items() if cell.startswith("URAM")),
        _luts(inside),
        _flip_flops(inside),
    )


def _primitives(modules: dict[str, dict[str, int]], name: str) -> tuple[Counter[str], Counter[str]]:
    """Of a module and all that it contains; and those inside of slices."""
    everything: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for cell, count in modules[name].items():
        cell = cell.lstrip("\\")
        of_cell, of_slices = _primitives(modules, cell) if cell in modules else (Counter({cell: 1}), Counter())
        for _ in range(count):
            everything += of_cell
            inside += of_slices
    return everything, (everything if SLICE in name else inside)


def _luts(cells: Counter[str]) -> int:
    luts = sum(count for name, count in cells.items() if re.fullmatch(r"LUT[1-6](_2)?", name))
    return luts + sum(count * LUT_OF_MEMORY.get(name, 0) for name, count in cells.items())


def _flip_flops(cells: Counter[str]) -> int:
    return sum(count for name, count in cells.items() if name.startswith("FD"))


def rows(jobs: Sequence[Job], family: str, folder: Path, slices: bool = True) -> list[dict[str, Any]]:
    """Of hls/machine/synthesis.json."""
    used = synthesize(jobs, family, folder, slices)
    return [{"family": family, **asdict(job), **asdict(each)} for job, each in zip(jobs, used, strict=True)]


def version() -> str:
    return f"Yosys {importlib.metadata.version('pyosys')}, synth_xilinx"
