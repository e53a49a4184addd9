"""Yosys's synthesis of the RTL, and what the resource model makes of it."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.primitives import block_ram, lut_ram, ultra_ram
from ditto_zynq.hls.machine.resources import LIST_LOGIC, multiplier_size
from ditto_zynq.hls.machine.synthesis import TERMS, element_luts, errors, luts, outside, table

FAMILIES = {"xcup": BOARDS["zcu104"], "xc7": BOARDS["pynq-z2"]}


def rows(module: str) -> list[dict]:
    return [row for row in table()["rows"] if row["module"] == module]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("module", TERMS)
def test_held_out_configurations_are_within_ten_percent(module, family):
    held_out = errors(module, family)
    assert held_out and max(map(abs, held_out)) <= 0.10, held_out


def test_lists_are_the_primitives_of_the_model():
    """Block RAMs exactly; LUTs with addresses and the multiplexers between distributed memories, within 10 %."""
    for row in rows("digit_memory"):
        p = row["parameters"]
        lists = p["LANES"] * 2 * 2  # low and high ones, in two buffers
        both_buffers = block_ram(2 * p["DIGIT_DEPTH"], 5 + p["WORD_BITS"]).bram18  # one memory; the kernels have two
        assert row["bram18"] == lists // 2 * both_buffers
        counts = lut_ram(FAMILIES[row["family"]], p["POSITIONS"], p["WORD_BITS"] + 1).lut + LIST_LOGIC
        assert row["lut"] == pytest.approx(lists * counts, rel=0.10), p


def test_weights_are_the_primitives_of_the_model():
    for row in rows("weight_memory"):
        p = row["parameters"]
        shape = p["WEIGHT_DEPTH"], 8 * p["OC_TILE"]
        if "ultra" in p["STYLE"]:
            assert (row["uram"], row["bram18"]) == (p["LANES"] * ultra_ram(*shape).uram, 0)
        else:
            assert (row["uram"], row["bram18"]) == (0, p["LANES"] * block_ram(*shape, two_reads=True).bram18)


def test_slices_take_two_weights():
    """Chains are whole; one or two slices more are of addresses."""
    for row in [*rows("compute_core"), *rows("dense_core")]:
        p = row["parameters"]
        slices = -(-p["LANES"] // p["CHAIN"]) * p["CHAIN"] * p["OC_TILE"] // 2
        assert slices <= row["dsp"] <= slices + 2, row


@pytest.mark.parametrize("board", BOARDS)
def test_sizes_of_multipliers_are_of_the_synthesis(board):
    """Of digits smaller than of codes; queues cost, but not all that digits save."""
    config = default_config(board)
    dense, narrow = (multiplier_size(config, digits, queues=False) for digits in (False, True))
    digits = multiplier_size(config, digits=True, queues=True)
    family = next(name for name, one in FAMILIES.items() if one.zynq_ultrascale == BOARDS[board].zynq_ultrascale)
    elements = [element_luts(name, family) for name in ("digit_element", "dense_element")]
    assert narrow == pytest.approx(dense - 1 + elements[0] / elements[1])
    assert narrow < digits < 1 <= dense < 1.1


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_is_of_this_rtl(family, tmp_path):
    """Its smallest rows, synthesized again."""
    from tests.hls.rtl.sweep import jobs
    from tests.hls.rtl.synthesis import synthesize

    small = [job for job in jobs(family) if job.parameters["LANES"] == 2]
    assert {job.module for job in small} == set(TERMS) - {"multiplier_column"}
    for job, used in zip(small, synthesize(small, family, tmp_path), strict=True):
        [row] = [each for each in rows(job.module) if each["family"] == family and each["parameters"] == job.parameters]
        assert used.lut - used.lut_in_slices == pytest.approx(outside(row), rel=0.01)
        assert (used.dsp, used.bram18) == (row["dsp"], row["bram18"])
        assert luts(job.module, family, job.parameters) == pytest.approx(outside(row), rel=0.15)
