"""Draws what trace_bench.py saw: pixels on their way through encoder, digit lists, queues and multipliers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from ditto_zynq.hls.build.verilog import write_header
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.host.studies.plots import save
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .simulators import Simulation

CONFIG = HardwareConfig(
    board="pynq-z2",
    cores=1,
    lanes=4,
    oc_tile=4,
    clock_mhz=100,
    bus_bits=32,
    digit_depth=64,
    positions=32,
    weight_depth=64,
    accumulator_depth=16,
    weight_memory="bram",
)


def simulate(folder: Path) -> dict:
    """``events`` [cycle, pixel] by row, ``waiting`` [cycles][lanes] digits in queues, ``digits`` [pixels][lanes]."""
    folder.mkdir(parents=True, exist_ok=True)
    write_header(CONFIG, folder)
    trace = folder / "trace.json"
    simulation = Simulation("icarus", "compute_unit", folder / "simulation", {}, includes=[folder])
    simulation.run("trace_bench", [f"+config={json.dumps(CONFIG.to_json())}", f"+trace={trace}"])
    return json.loads(trace.read_text())


def draw(trace: dict, path: Path) -> None:
    """A row for each stage and lane, a column for each cycle, a colour for each output pixel."""
    lanes = len(trace["digits"][0])
    rows = ["encode", "list written", "tap"]
    rows += [f"read {lane}" for lane in range(lanes)] + [f"multiply {lane}" for lane in range(lanes)] + ["sums"]
    first = min(cycle for events in trace["events"].values() for cycle, _ in events)
    end = max(cycle for events in trace["events"].values() for cycle, _ in events) + 1
    colours = colormaps["tab10"].colors
    figure = Figure(figsize=(12, 5.4))
    axis = figure.subplots()
    for height, name in enumerate(rows):
        for cycle, pixel in trace["events"].get(name, []):
            axis.broken_barh([(cycle - first, 0.92)], (height - 0.35, 0.65), color=colours[pixel % 10])
    for cycle, counts in enumerate(trace["waiting"], 1):
        for lane, count in enumerate(counts):
            if count and first <= cycle < end:
                axis.text(
                    cycle - first + 0.46, rows.index(f"read {lane}") + 0.49, count, fontsize=7, ha="center", va="center"
                )
    idle = {cycle for cycle, _ in trace["events"]["busy"]}
    for lane in range(lanes):
        working = {cycle for cycle, _ in trace["events"].get(f"multiply {lane}", [])}
        for cycle in idle - working:
            box = (rows.index(f"multiply {lane}") - 0.35, 0.65)
            axis.broken_barh([(cycle - first, 0.92)], box, facecolor="none", edgecolor="#999999", hatch="////", lw=0.3)
    labels = {
        "encode": "encoder takes a word",
        "list written": "pixel's lists complete",
        "tap": "tap of an output pixel",
    }
    labels |= {f"read {lane}": f"lane {lane} reads a digit" for lane in range(lanes)}
    labels |= {f"multiply {lane}": f"lane {lane} multiplies" for lane in range(lanes)} | {"sums": "sums complete"}
    axis.set_yticks(range(len(rows)), [labels[name] for name in rows], fontsize=8)
    axis.set(xlabel="cycle", xlim=(-0.5, end - first + 0.5), ylim=(len(rows) - 0.3, -0.7))
    pixels = np.array(trace["digits"])
    handles = [
        Patch(color=colours[pixel], label=f"pixel {pixel}: {pixels[pixel].tolist()} digits")
        for pixel in range(len(pixels))
    ]
    handles.append(Patch(facecolor="none", edgecolor="#999999", hatch="////", label="waits for the fullest lane"))
    handles.append(Patch(color="none", label="numbers: digits in the lane's queue"))
    axis.legend(handles=handles, fontsize=7, loc="upper right", title="digits of each lane", title_fontsize=7)
    save(figure, path)
