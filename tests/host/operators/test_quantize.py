"""A quantizer runs behind the vector operation that it alone reads, or alone; in two parts it writes twice the channels."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.studies.spot_check import Wrong

from tests.host.operators.small import Small, value_of


def test_it_runs_alone_behind_the_linear_unit():
    build = GraphBuilder(0)
    value = value_of(build, (2, 3, 8))
    code = build.quantize(value)
    small = Small(build, code)
    form, scalars = small.form(code), small.scalars(code, 3)
    assert small.operation(code) is not small.operation(value)
    assert (form.opcode, form.activation) == (Opcode.ACTIVATE, 0)
    assert form.has(Flag.QUANTIZE) and form.has(Flag.CODE_OUTPUT) and not form.has(Flag.FINE)
    assert scalars["quantize_multiplier"] == build.tables[f"{code}.multiplier"][1], "step 3 is of the second group"
    assert scalars["quantize_shift"] == build.tables[f"{code}.shift"][1]


def test_it_is_fused_behind_whatever_takes_it():
    build = GraphBuilder(0)
    value = value_of(build, (2, 4, 8))
    pooled = build.average_pool(value)
    codes = [build.quantize(each) for each in (build.group_norm(value, 2), build.add(value, value), pooled)]
    small = Small(build, build.concat(*[build.convolution(code, 3) for code in codes[:2]]))
    assert [small.form(code).opcode for code in codes] == [Opcode.GROUP_NORM, Opcode.ADD, Opcode.ACTIVATE]


def test_two_parts_are_written_side_by_side():
    """6 pixels of 8 codes and 8 residues: runs of half a beat each."""
    build = GraphBuilder(0)
    code = build.quantize(value_of(build, (2, 3, 8)), fine=True)
    small = Small(build, code)
    form = small.form(code)
    assert form.has(Flag.FINE) and (form.channels, form.output_channels, form.output_pitch) == (8, 16, 16)
    expected = {"input_beats": 6, "output_beats": 12, "merged_beats": 12, "vector_cycles": 6, "cycles": 12}
    assert small.counts(code) == expected


@pytest.mark.parametrize("fine", [False, True])
def test_samples(fine):
    build = GraphBuilder(0)
    small = Small(build, build.quantize(value_of(build, (2, 3, 4)), fine))
    small.check_samples(small.graph.output)
    with pytest.raises(Wrong):
        small.check_samples(small.graph.output, spoiled=(0, 1, 2, -1))
