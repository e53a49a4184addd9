"""A concatenation is no operation: its parts are written side by side, and its readers see them as one."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.operators import Concat
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.host.operators import operator_of

from tests.host.operators.small import Small, value_of


def test_readers_see_all_parts_at_the_pitch_of_all():
    build = GraphBuilder(0)
    parts = [value_of(build, (2, 3, channels)) for channels in (5, 1, 4)]
    joined = build.concat(*parts)
    small = Small(build, build.silu(joined))
    reader, writers = small.form(small.graph.output), [small.form(part) for part in parts]
    assert len(small.program.operations) == 4
    assert (reader.channels, reader.input_pitch) == (10, 10) == (10, writers[0].output_pitch)
    assert [writer.output - reader.input for writer in writers] == [0, 2 * 5, 2 * 6]


def test_nothing_runs_it():
    node = Concat("joined", "m", ("a", "b"))
    with pytest.raises(ValueError, match="joined: found a concatenation to run, expected its parts side by side"):
        operator_of(node).opcode(node)
