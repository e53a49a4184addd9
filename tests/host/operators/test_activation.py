"""An activation runs behind a norm, or alone on a value, with a quantizer behind it where only that reads it."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.operators.activation import OPERATORS
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.studies.spot_check import Wrong

from tests.host.operators.small import Small, value_of


@pytest.mark.parametrize(("kind", "number"), zip(OPERATORS, (1, 2, 3, 4), strict=True))
def test_its_number_and_fraction_bits_stand_in_the_descriptor(kind, number):
    build = GraphBuilder(0)
    alone = build.activation(kind, value_of(build, (2, 3, 8)))
    behind = build.activation(kind, build.group_norm(alone, 2))
    small = Small(build, behind)
    assert [small.form(name).opcode for name in (alone, behind)] == [Opcode.ACTIVATE, Opcode.GROUP_NORM]
    nodes = {node.name: node for node in small.graph.nodes}
    for name in (alone, behind):
        assert (small.form(name).activation, small.form(name).activation_bits) == (number, nodes[name].fraction_bits)


def test_it_is_fused_behind_norms_alone_and_only_where_nothing_else_reads_them():
    build = GraphBuilder(0)
    value = value_of(build, (2, 3, 8))
    read_twice = build.group_norm(value, 1)
    after_norm, after_sum = build.silu(read_twice), build.silu(build.add(value, read_twice))
    code = build.quantize(after_sum)
    small = Small(build, build.add(build.convolution(code, 8), after_norm))
    for name in (after_norm, after_sum):
        assert small.form(name).opcode == Opcode.ACTIVATE
    assert small.operation(code) is small.operation(after_sum)
    assert small.form(code).has(Flag.QUANTIZE) and not small.form(after_norm).has(Flag.QUANTIZE)


def test_beats_and_cycles_by_hand():
    """6 pixels of 24 values, 3 beats each, -> 24 codes, of which every second beat is filled."""
    build = GraphBuilder(0)
    code = build.quantize(build.silu(value_of(build, (2, 3, 24))))
    small = Small(build, code)
    expected = {"input_beats": 18, "output_beats": 12, "merged_beats": 6, "vector_cycles": 18, "cycles": 18}
    assert small.counts(code) == expected


def test_samples_follow_it_to_the_quantizer():
    build = GraphBuilder(0)
    small = Small(build, build.quantize(build.silu(value_of(build, (2, 3, 4)))))
    small.check_samples(small.graph.output)
    with pytest.raises(Wrong):
        small.check_samples(small.graph.output, spoiled=(0, 1, 2, 3))
