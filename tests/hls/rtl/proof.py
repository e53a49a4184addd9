"""The page of scripts/prove-hardware."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.plan import QUEUES
from ditto_zynq.hls.machine.resources import estimate, largest_dense, multiplier_size
from ditto_zynq.hls.machine.synthesis import FAMILIES, TERMS, errors, outside
from ditto_zynq.host.runtime.session import DIFFERENCE, ORIGINAL, SPATIAL
from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page(found: Mapping[str, Any]) -> str:
    """Markdown, with timeline.png beside it. ``found``: what the script measured."""
    layers, rows = found["layers"], found["synthesis"]["rows"]
    [default] = [each["cycles"] for each in found["queues"] if not each["depths"]]
    fits = [
        {
            "module": module,
            "family": family,
            "fitted": _worst(module, family, False),
            "held_out": _worst(module, family, True),
        }
        for module in TERMS
        for family in FAMILIES
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("proof.md.j2").render(
        found,
        tool=found["synthesis"]["tool"],
        rows=rows,
        depths=QUEUES,
        default=default,
        fits=fits,
        elements=[*_elements(rows)],
        boards=[*_boards()],
        compared=[*_compared(found["compared"])],
        totals={
            flow: _totals([row for row in layers if row["flow"] == flow]) for flow in (DIFFERENCE, ORIGINAL, SPATIAL)
        },
        worst=max(abs(row["cycles"] - row["model"]) for row in layers),
        relative=max(abs(row["cycles"] / row["model"] - 1) for row in layers),
    )


def _totals(layers: list[dict[str, Any]]) -> dict[str, float]:
    """Of some rows, weighted by their cycles."""
    cycles = sum(row["model"] for row in layers)
    used = {
        name: sum(row["model"] * row["used"][name] for row in layers) / cycles for name in ("lanes", "cores", "fill")
    }
    return used | {"free": sum(row["free"] for row in layers) / sum(row["cycles"] for row in layers) - 1}


def compact(table: Mapping[str, Any]) -> str:
    """hls/machine/synthesis.json: a row a line."""
    rows = ",\n".join("  " + json.dumps(row) for row in table["rows"])
    return f'{{\n "tool": {json.dumps(table["tool"])},\n "rows": [\n{rows}\n ]\n}}\n'


def _worst(module: str, family: str, held_out: bool) -> float:
    return max(map(abs, errors(module, family, held_out)))


def _elements(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    of_cores = {"compute_core": "digit (5 x 8 bits, shifted)", "dense_core": "dense (8 x 8 bits)"}
    alone = {"digit_element": "digit, without slices", "dense_element": "dense, without slices"}
    for row in rows:
        p = row["parameters"]
        if row["module"] in of_cores and (p["LANES"], p["OC_TILE"]) == (8, 32) and not row["held_out"]:
            yield _element(of_cores[row["module"]], row, p["LANES"] * p["OC_TILE"])
        elif row["module"] in alone:
            yield _element(alone[row["module"]], row, 1)


def _element(name: str, row: dict[str, Any], count: int) -> dict[str, Any]:
    counts = {"lower": outside(row) / count, "upper": row["lut"] / count, "dsp": row["dsp"] / count}
    return {"name": name, "family": row["family"], **counts}


def _boards() -> Iterator[dict[str, Any]]:
    for name in BOARDS:
        config = default_config(name)
        used, dense = estimate(config), largest_dense(config)
        sizes = [multiplier_size(config, digits, queues=digits) for digits in (True, False)]
        yield {
            "name": name,
            "cores": config.cores,
            "lut": used.lut,
            "dsp": used.dsp,
            "dense": dense,
            "size": sizes[0] / sizes[1],
        }


def _compared(boards: Mapping[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Designs beside the dense array of equal resources, which is the first one."""
    for board, designs in boards.items():
        for design in designs:
            joules, of_dense = (each["energy_uj_per_image"] for each in (design, designs[0]))
            yield design | {
                "board": board,
                "energy": joules["total"] / of_dense["total"],
                "arithmetic": joules["products"] / of_dense["products"],
            }
