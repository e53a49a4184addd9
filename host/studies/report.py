"""Reports of what a device counted: JSON for machines, a table for people. Every figure says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...hls.machine.boards import Board
from ...hls.machine.config import HardwareConfig, default_config
from ...hls.machine.isa import COUNTER_NAMES, COUNTERS
from ...hls.machine.resources import available, estimate, parts
from ..common.words import LONGEST_NAME, number_of, shortened
from ..counting.traffic import dram_beats
from ..runtime.record import Record


def profile_json(record: Record, config: HardwareConfig) -> dict[str, Any]:
    """All counters per operation and step, with totals. Cycles are emulated: the design has not run on a board.

    ``stall_cycles``: those of a linear operator in which its multipliers wait; ``dram_bytes`` of all ports; ``reference``: what
    it referred to (:class:`~ditto_zynq.hls.contract.references.Reference`). ``bops_saved``: bit operations saved by what was
    encoded, against 8 x 8 bits, and against the codes of the first step if their zeros are skipped and 4 bits cost half.
    """
    total = _total(record)
    return {
        "kind": "emulated",
        "configuration": config.to_json(),
        "samples": record.samples,
        "steps": len(record.counters),
        "total": {name: int(total[name].sum()) for name in COUNTER_NAMES},
        "bops_saved": bops_saved(record.counters),
        "operations": [
            {
                "name": name,
                "module": module,
                **{counter: [int(value) for value in record.counters[:, index][counter]] for counter in COUNTER_NAMES},
                "stall_cycles": _stalls(record.counters[:, index], config).tolist(),
                "dram_bytes": (dram_beats(record.counters[:, index]) * config.bus_bytes).tolist(),
                "reference": record.counters[:, index]["reference"].tolist(),
            }
            for index, (name, module) in enumerate(zip(record.names, record.modules, strict=True))
        ],
    }


def bops_saved(counters: np.ndarray) -> dict[str, float]:
    """Bit operations saved in steps after the first, by both of Ditto's definitions (against 8 x 8 bits, and against codes whose
    zeros cost nothing), weighted by multiplications: zeros cost nothing, 4 bits half of 8. Empty where there is one step."""
    linear = counters["elements"].sum(axis=0) > 0
    spent = [bit_operations(part[:, linear]) for part in (counters[:1], counters[1:])]
    if len(counters) < 2 or not spent[0]:
        return {}
    return {"against_8x8": 1 - spent[1], "against_codes_with_zeros_and_4_bits": 1 - spent[1] / spent[0]}


def bit_operations(counters: np.ndarray) -> float:
    """Bit operations per 8 x 8 product, by counter records of linear operators, weighted by products: zeros cost nothing, 4 bits
    half."""
    if not counters.size:
        return 0.0
    elements = np.maximum(counters["elements"].astype(np.float64), 1)
    cost = 1 - counters["zeros"] / elements - counters["narrow"] / elements / 2
    return float(np.average(cost, weights=np.maximum(counters["dense_products"], 1)))


def _stalls(counters: np.ndarray, config: HardwareConfig) -> np.ndarray:
    """Cycles [steps] in which the multipliers of a linear operator wait for operands, results or the slowest core."""
    busy = -(-np.maximum(counters["compute_cycles"], counters["tap_cycles"]).astype(np.int64) // config.cores)
    return np.where(counters["elements"] > 0, np.maximum(counters["cycles"].astype(np.int64) - busy, 0), 0)


def summary_text(record: Record, config: HardwareConfig, flow: str, batch: int) -> str:
    """A table for people: cycles, digits and traffic per operation, summed over steps, and the totals per image; ``batch`` images
    were together."""
    total = _total(record)
    cycles = int(total["cycles"].sum())
    lines = [
        f"{_run_text(record, flow, batch)}, {config.board}: {_array_text(config)} at {config.clock_mhz} MHz. "
        "Cycles are emulated, not measured on a board.",
        "",
        f"{'layer':{LONGEST_NAME}} {'cycles':>12} {'share':>6} {'bound by':>8} {'zero':>6} {'<=4 bit':>8} {'digits/8x8':>10} "
        f"{'MB':>8}",
    ]
    for name, row in zip(record.names, total, strict=True):
        lines.append(_row(name, row, cycles, config))
    lines += ["-" * len(lines[-1]), _row("total", _sum(total), cycles, config), ""]
    lines.append(time_text(record, config, flow, batch))
    return "\n".join(lines) + "\n"


def time_text(record: Record, config: HardwareConfig, flow: str, batch: int) -> str:
    """The time of an image, and all that it depends on: other flows and batches take others."""
    seconds = int(record.counters["cycles"].sum()) / (config.clock_mhz * 1e6)
    return (
        f"{seconds / max(record.samples, 1) * 1e3:.1f} ms per image on {config.board} at {config.clock_mhz} MHz (emulated): "
        f"{_run_text(record, flow, batch)}"
    )


def _run_text(record: Record, flow: str, batch: int) -> str:
    count, steps = number_of(record.samples, "image"), number_of(len(record.counters), "step")
    together = f"{count} in batches of {batch:,}" if batch < record.samples else f"{count} in a batch"
    return f"{together}, {steps}, flow {flow}"


def _array_text(config: HardwareConfig) -> str:
    parts = ((config.cores, "core"), (config.lanes, "lane"), (config.oc_tile, "output"))
    return " x ".join(number_of(count, noun) for count, noun in parts)


def _row(name: str, row: np.void, cycles: int, config: HardwareConfig) -> str:
    elements = int(row["elements"])
    zero, low, dense = "", "", ""
    if elements:
        zero = f"{row['zeros'] / elements:.1%}"
        low = f"{(row['zeros'] + row['narrow']) / elements:.1%}"
        dense = f"{row['products'] / row['dense_products']:.2f}"
    megabytes = int(dram_beats(row)) * config.bus_bytes / 1e6
    share = row["cycles"] / max(cycles, 1)
    bound = busiest_unit(row, config)
    of_digits = f"{zero:>6} {low:>8} {dense:>10}"
    return (
        f"{shortened(name):{LONGEST_NAME}} {int(row['cycles']):>12,} {share:>6.1%} {bound:>8} {of_digits} "
        f"{megabytes:>8.1f}"
    )


def busiest_unit(row: np.void, config: HardwareConfig) -> str:
    """The unit with the most work: multipliers, encoders (both shared by the cores), vector unit, or one of the memory ports."""
    ports = (
        row["weight_beats"] + row["parameter_beats"],
        row["input_beats"] + row["merged_beats"],
        row["output_beats"],
        row["previous_beats"],
        row["kept_beats"],
        row["accumulator_read_beats"],
        row["accumulator_write_beats"],
    )
    units = {
        "compute": max(int(row["compute_cycles"]), int(row["tap_cycles"])) / config.cores,
        "encode": int(row["encode_cycles"]) / config.cores,
        "vector": int(row["vector_cycles"]),
        "memory": max(int(port) for port in ports),
    }
    return max(units, key=lambda unit: units[unit])


def _total(record: Record) -> np.ndarray:
    """Counter records per operation, summed over steps."""
    total = np.zeros(len(record.names), COUNTERS)
    for name in COUNTER_NAMES:
        total[name] = record.counters[name].sum(axis=0)
    return total


def _sum(records: np.ndarray) -> np.void:
    result = np.zeros(1, COUNTERS)
    for name in COUNTER_NAMES:
        result[name] = records[name].sum()
    return result[0]


def boards_json(boards: Mapping[str, Board]) -> list[dict[str, Any]]:
    """Boards, the configuration shipped for each, and the resources that it should take, part by part; JSON-ready."""
    return [
        {
            **{field: value for field, value in vars(board).items() if field != "shipped"},
            "configuration": default_config(name).to_json(),
            "estimated": {part: vars(used) for part, used in parts(default_config(name)).items()},
        }
        for name, board in boards.items()
    ]


def boards_text(boards: Mapping[str, Board]) -> str:
    """A table for people: a row per board, with what there is and what its shipped configuration should take of it."""
    lines = [f"{'board':10} {'part':24} {'LUT':>14} {'DSP':>12} {'BRAM18':>12} {'URAM':>10} {'GB/s':>5}  configuration"]
    for name, board in boards.items():
        config, there = default_config(name), available(board)
        used = estimate(config)
        lut, dsp, bram, uram = (
            _share(getattr(used, kind), getattr(there, kind)) for kind in ("lut", "dsp", "bram18", "uram")
        )
        lines.append(
            f"{name:10} {board.part:24} {lut:>14} {dsp:>12} {bram:>12} {uram:>10} {board.dram_gb_per_s:>5}  "
            f"{_array_text(config)}, {config.bus_bits}-bit ports, "
            f"{config.clock_mhz} MHz{'; ' + board.note if board.note else ''}"
        )
    lines.append(
        "What there is (vendors' figures), and the part of it that the shipped configuration takes (estimated: "
        "hls/machine/resources.py)."
    )
    return "\n".join(lines) + "\n"


def _share(used: int, there: int) -> str:
    return f"{there:,} {used / there:>4.0%}" if there else "-"
