"""Sums and products read two operands in one loop, each with a scale of its own in the scalars."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.studies.spot_check import Wrong

from tests.host.operators.small import Small, value_of


def pair(kind: str, fused: bool = False, channels: int = 8) -> tuple[Small, str, tuple[str, str]]:
    build = GraphBuilder(0)
    operands = value_of(build, (2, 3, channels)), value_of(build, (2, 3, channels))
    name = getattr(build, kind)(*operands)
    return Small(build, build.quantize(name) if fused else name), name, operands


@pytest.mark.parametrize("kind", ["add", "multiply"])
def test_numbers_of_the_descriptor_and_scalars(kind):
    small, name, operands = pair(kind)
    form, scalars = small.form(name), small.scalars(name, 3)
    assert form.opcode == Opcode[kind.upper()] and form.activation == 0
    assert [form.input, form.other] == [small.program.placements[each].offset for each in operands]
    assert (form.input_pitch, form.other_pitch) == (8, 8) and form.input != form.other
    multiplier = small.build.tables[f"{name}.multiplier"][1].tolist()
    expected = multiplier if kind == "add" else [0, multiplier]
    assert [scalars["multiplier0"], scalars["multiplier1"]] == expected
    assert scalars["shift"] == small.build.tables[f"{name}.shift"][1]


def test_a_quantizer_follows_it_and_an_activation_does_not():
    small, name, _ = pair("multiply", fused=True)
    assert small.operation(small.graph.output) is small.operation(name) and small.form(name).has(Flag.QUANTIZE)
    build = GraphBuilder(0)
    value = value_of(build, (2, 3, 8))
    total = build.add(value, value)
    other = Small(build, build.relu(total))
    assert other.operation(total) is not other.operation(other.graph.output)


def test_beats_and_cycles_by_hand():
    """Two operands of 6 pixels of a beat and a vector each."""
    small, name, _ = pair("add")
    expected = {"input_beats": 12, "output_beats": 6, "merged_beats": 0, "vector_cycles": 6, "cycles": 12}
    assert small.counts(name) == expected


@pytest.mark.parametrize("kind", ["add", "multiply"])
def test_samples(kind):
    small, *_ = pair(kind, fused=True)
    small.check_samples(small.graph.output)
    with pytest.raises(Wrong):
        small.check_samples(small.graph.output, spoiled=(0, 1, 2, 7))
