"""Reports of counters, by hand; whole commands are in cli/test_costs.py and cli/test_generate.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import COUNTERS
from ditto_zynq.host.runtime.record import Record
from ditto_zynq.host.studies.report import (
    bit_operations,
    boards_json,
    bops_saved,
    busiest_unit,
    summary_text,
    time_text,
)

CONFIG = default_config("zcu104")


def counters(steps: int = 2, layers: int = 1, **fields: int) -> np.ndarray:
    records = np.zeros((steps, layers), COUNTERS)
    for name, value in fields.items():
        records[name] = value
    return records


def test_zeros_cost_nothing_and_4_bits_half():
    records = counters(elements=100, zeros=40, narrow=20, dense_products=7)
    assert bit_operations(records) == pytest.approx(0.5) and bit_operations(records[:0]) == 0
    records["zeros"][1] = 80
    assert bops_saved(records) == {
        "against_8x8": pytest.approx(0.9),
        "against_codes_with_zeros_and_4_bits": pytest.approx(0.8),
    }
    assert bops_saved(records[:1]) == {}


def test_the_busiest_unit():
    assert busiest_unit(counters(compute_cycles=9 * CONFIG.cores, encode_cycles=1)[0, 0], CONFIG) == "compute"
    assert busiest_unit(counters(vector_cycles=9, kept_beats=8)[0, 0], CONFIG) == "vector"
    assert busiest_unit(counters(vector_cycles=9, kept_beats=10)[0, 0], CONFIG) == "memory"


def test_times_say_what_they_are_of():
    record = Record(("a",), ("m",), counters(cycles=125_000), 2)
    text = time_text(record, CONFIG, "defo", 1)
    assert text == "0.5 ms per image on zcu104 at 250 MHz (emulated): 2 images in batches of 1, 2 steps, flow defo"
    assert text in summary_text(record, CONFIG, "defo", 1)


def test_boards_and_their_configurations_are_json():
    found = json.loads(json.dumps(boards_json(BOARDS)))
    assert [board["name"] for board in found] == list(BOARDS) and "shipped" not in found[0]
    assert all(board["configuration"]["board"] == board["name"] and board["estimated"] for board in found)
