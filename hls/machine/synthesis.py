"""LUTs of the parts that are written in RTL too, by what Yosys makes of them (``synthesis.json``, by scripts/prove-hardware).

A module's LUTs are fitted as a sum of terms, so that each row's relative error counts alike; rows that are held out say how
far off it is (``errors``). Left out are the LUTs that Yosys takes for what DSP slices hold themselves (``lut_in_slices``). No
AMD tool has checked any of it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.arithmetic import ceil_divide

TABLE = Path(__file__).with_name("synthesis.json")
Parameters = Mapping[str, int]


def _core_terms(p: Parameters) -> list[float]:
    lanes, columns = p["LANES"], p["OC_TILE"] // 2
    bits = p["POSITION_BITS"] + p["SLOT_BITS"] + p["WEIGHT_BITS"]
    return [1, bits, lanes, lanes * bits, columns, columns * ceil_divide(lanes, p["CHAIN"])]


def _encoder_terms(p: Parameters) -> list[float]:
    lanes, bus = p["LANES"], p["BUS_BYTES"]
    return [1, bus, lanes, lanes * bus, lanes * p["WORD_BITS"]]


def _column_terms(p: Parameters) -> list[float]:
    return [1, ceil_divide(p["LANES"], p["CHAIN"])]


TERMS: dict[str, Callable[[Parameters], list[float]]] = {
    "compute_core": _core_terms,
    "dense_core": _core_terms,
    "encoding_unit": _encoder_terms,
    "multiplier_column": _column_terms,
}
FAMILIES = ("xcup", "xc7")
"""UltraScale+ and 7 series, as Yosys calls them."""


def luts(module: str, family: str, parameters: Parameters) -> int:
    """LUTs of a module with these parameters, by the fit."""
    return round(float(np.dot(TERMS[module](parameters), _coefficients(module, family))))


def errors(module: str, family: str, held_out: bool = True) -> list[float]:
    """The fit's errors relative to Yosys's LUTs: those of the rows that are held out, or of the others."""
    rows = [row for row in _rows(module, family) if row["held_out"] == held_out]
    return [luts(module, family, row["parameters"]) / outside(row) - 1 for row in rows]


def element_luts(name: str, family: str) -> int:
    """LUTs of a ``digit_element`` or ``dense_element``: one multiplier and its sum, without slices."""
    [row] = _rows(name, family)
    return int(row["lut"])


def outside(row: Mapping[str, Any]) -> int:
    """LUTs of a row that are not in DSP slices."""
    return int(row["lut"] - row["lut_in_slices"])


@functools.cache
def table() -> dict[str, Any]:
    """What Yosys made. ``tool``: its version; ``rows``: module, family, parameters, and counts of primitives."""
    found: dict[str, Any] = json.loads(TABLE.read_text())
    return found


def read_again() -> None:
    """Forget what was read, after the table has been written anew."""
    table.cache_clear()
    _coefficients.cache_clear()


def _rows(module: str, family: str) -> list[dict[str, Any]]:
    return [row for row in table()["rows"] if (row["module"], row["family"]) == (module, family)]


@functools.cache
def _coefficients(module: str, family: str) -> np.ndarray:
    rows = [row for row in _rows(module, family) if not row["held_out"]]
    terms = np.array([TERMS[module](row["parameters"]) for row in rows], float)
    counts = np.array([outside(row) for row in rows], float)
    return np.linalg.lstsq(terms / counts[:, None], np.ones(len(counts)), rcond=None)[0]
