"""Softmax reads rows of logits once, works on them twice, and writes codes."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.hls.machine.plan import CannotPlan
from ditto_zynq.host.program.operations import row_bytes_of
from ditto_zynq.host.studies.spot_check import Wrong

from tests.host.operators.small import CONFIG, Small


def softmax(keys: int = 10) -> tuple[GraphBuilder, str]:
    """Of 2 heads, 3 queries."""
    build = GraphBuilder(0)
    source, context = build.input((1, 3, 4)), build.context((keys, 1, 4))
    q, k = (build.convolution(each, 8, kind="code") for each in (source, context))
    return build, build.softmax(build.scores(q, k, 2))


def test_numbers_of_the_descriptor_and_scalars():
    build, name = softmax()
    small = Small(build, name)
    form, scalars = small.form(name), small.scalars(name, 3)
    assert (form.opcode, form.height, form.width, form.channels) == (Opcode.SOFTMAX, 2, 3, 10)
    assert form.has(Flag.CODE_OUTPUT) and not form.has(Flag.CODE_INPUT)
    assert scalars["multiplier0"] == build.tables[f"{name}.multiplier"][1]
    assert scalars["shift"] == build.tables[f"{name}.shift"][1]


def test_beats_and_cycles_by_hand():
    """6 rows of 20 bytes, 2 beats each, and of 10 bytes, of which every third one begins with a beat."""
    build, name = softmax()
    expected = {"input_beats": 12, "output_beats": 9, "merged_beats": 9, "vector_cycles": 2 * 12, "cycles": 24}
    assert Small(build, name).counts(name) == expected


def test_a_row_fits_the_row_buffer_or_is_refused():
    build, name = softmax(keys=2048)
    small = Small(build, name)
    assert row_bytes_of(small.operation(name), small.graph) == 4096 == CONFIG.row_bytes
    build, name = softmax(keys=2049)
    with pytest.raises(CannotPlan, match="rows of 4098 bytes, but zcu104 has row_bytes = 4096"):
        Small(build, name)


def test_samples():
    build = GraphBuilder(0)
    source = build.input((2, 3, 4))
    q, k = (build.convolution(source, 8, kind="code") for _ in range(2))
    small = Small(build, build.softmax(build.scores(q, k, 2)))
    small.check_samples(small.graph.output)
    with pytest.raises(Wrong):
        small.check_samples(small.graph.output, spoiled=(0, 1, 4, 3))
