"""Norms: groups and tables in the descriptor, two passes over each sample or pixel, and parts that make the whole."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.operators.norm import norm_parts
from ditto_zynq.host.studies.spot_check import Wrong

from tests.host.operators.small import CONFIG, Small, value_of


def norm(kind: str, channels: int = 16, conditional: bool = False, batch: int = 1) -> tuple[Small, str]:
    """Of 2 x 2 pixels, in 2 groups or pixel by pixel."""
    build = GraphBuilder(0)
    value = value_of(build, (2, 2, channels))
    name = build.group_norm(value, 2, conditional) if kind == "group" else build.layer_norm(value, conditional)
    return Small(build, name, batch), name


@pytest.mark.parametrize(
    ("kind", "opcode", "groups"), [("group", Opcode.GROUP_NORM, 2), ("layer", Opcode.LAYER_NORM, 1)]
)
def test_numbers_of_the_descriptor(kind, opcode, groups):
    for conditional in (False, True):
        small, name = norm(kind, conditional=conditional)
        form, scalars, tables = small.form(name), small.scalars(name, 2), small.build.tables
        assert (form.opcode, form.groups, form.has(Flag.CONDITIONAL)) == (opcode, groups, conditional)
        assert form.offset - form.gain == 64, "16 gains of 4 bytes"
        assert form.sample_stride == (64 + 128 if conditional else 0)
        group = small.graph.group_of_step[2]
        assert scalars["gain_bits"] == tables[f"{name}.gain_bits"][group]
        assert scalars["epsilon"] == tables[f"{name}.epsilon"][group]


def test_beats_and_cycles_by_hand():
    """4 pixels of 16 values, 2 beats and 2 vectors each. Tables: 4 beats of gains, 8 of offsets."""
    small, name = norm("group")
    found = small.counts(name)
    assert (found["parameter_beats"], found["input_beats"], found["output_beats"]) == (12, 2 * 8, 8)
    assert found["vector_cycles"] == 2 * 8 + 2 * 2, "two passes, and two vectors for each group's slopes"
    assert found["cycles"] == 12 + 4 + 8 + 8 and found["merged_beats"] == 0
    small, name = norm("layer")
    found = small.counts(name)
    assert (found["parameter_beats"], found["input_beats"], found["output_beats"]) == (12, 2 * 8, 8)
    assert found["vector_cycles"] == 4 * (2 * 2 + 2 * 2) and found["cycles"] == 12 + 4 * (4 + 2 + 2)


def test_parts_make_the_whole():
    small, name = norm("group", channels=64, conditional=True)
    whole, parts = small.counts(name), norm_parts(CONFIG, small.form(name), 2)
    assert len(parts) == 2 and parts[0] == parts[1]
    assert {key: sum(part[key] for part in parts) for key in whole} == whole, "of parts that are whole beats and groups"


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_samples(kind):
    small, name = norm(kind, channels=6, conditional=True)
    small.check_samples(name)
    with pytest.raises(Wrong):
        small.check_samples(name, spoiled=(0, 1, 0, 5))
