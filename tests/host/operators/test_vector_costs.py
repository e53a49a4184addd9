"""What goes over its pixels once is as slow as the slowest of reading, working and writing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ditto_zynq.hls.machine.forms import Activate
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.operators.vector_costs import row_beats, streamed, vectors_of

from tests.host.operators.small import CONFIG

FORM = Activate(  # 2 samples of 3 pixels of 10 values in buffers 16 wide
    opcode=Opcode.ACTIVATE,
    batch=2,
    height=1,
    width=3,
    channels=10,
    output_height=1,
    output_width=3,
    output_channels=10,
    input=64,
    input_pitch=16,
    output=1028,
    output_pitch=16,
)


def test_rows_of_bytes_by_hand():
    """20 bytes from byte 6 on, 26 apart: 6-25, 32-51, 58-77, 84-103."""
    assert row_beats(6, 26, 20, 4, 16).tolist() == [2 + 2 + 2 + 2, 2 + 1 + 2 + 2]
    assert row_beats(6, 26, 0, 4, 16).tolist() == [0, 0]


def test_the_slowest_loop_counts():
    assert vectors_of(CONFIG, FORM) == 6 * 2, "10 values are two vectors of 8"
    found = streamed(CONFIG, FORM, 5)
    assert found["input_beats"] == 12 and found["output_beats"] == 12 and found["merged_beats"] == 12
    assert [streamed(CONFIG, FORM, work)["cycles"] for work in (5, 13)] == [12, 13]
    assert streamed(CONFIG, FORM, 5, input_beats=40)["cycles"] == 40


@pytest.mark.parametrize(("flags", "written"), [(Flag.CODE_OUTPUT, 6), (Flag.CODE_OUTPUT | Flag.FINE, 6 + 12)])
def test_codes_take_a_byte_and_residues_another_run(flags, written):
    """10 codes from the fifth byte of a beat on fit it; 10 residues behind them are in two."""
    form = replace(FORM, flags=int(flags), output_pitch=32)
    found = streamed(CONFIG, form, 0)
    assert (found["output_beats"], found["merged_beats"], found["input_beats"]) == (written, written, 12)
