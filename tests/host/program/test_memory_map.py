"""Buffers that live together lie apart, and memory is used again."""

from __future__ import annotations

from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.program.memory_map import allocate
from hypothesis import given
from hypothesis import strategies as st

from tests.host.runs import CONFIG


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=3),
        st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 5000)),
        min_size=1,
        max_size=20,
    )
)
def test_buffers_that_live_together_do_not_overlap(buffers):
    intervals = {name: (min(a, b), max(a, b)) for name, (a, b, _) in buffers.items()}
    sizes = {name: size for name, (_, _, size) in buffers.items()}
    offsets, total = allocate(intervals, sizes)
    for one in buffers:
        assert offsets[one] % 64 == 0 and offsets[one] + sizes[one] <= total
        for other in buffers:
            together = intervals[one][0] <= intervals[other][1] and intervals[other][0] <= intervals[one][1]
            apart = offsets[one] + sizes[one] <= offsets[other] or offsets[other] + sizes[other] <= offsets[one]
            assert one == other or apart or not together


def test_memory_of_short_lived_buffers_is_used_again():
    intervals = {f"t{index}": (index, index + 1) for index in range(10)}
    _, total = allocate(intervals, dict.fromkeys(intervals, 1000))
    assert total == 2 * 1024


def test_concatenation_is_addressing():
    build = GraphBuilder(0)
    source = build.input((4, 4, 3))
    a, b = build.convolution(source, 5), build.convolution(source, 7)
    joined = build.concat(a, b)
    graph = build.graph(build.group_norm(joined, 1))
    program = compile_program(graph, build.tables, CONFIG, 1)
    assert [op.name for op in program.operations] == [a, b, graph.output]
    first, second, whole = (program.placements[name] for name in (a, b, joined))
    assert first.pitch == second.pitch == whole.pitch == 12
    assert first.offset == whole.offset and second.offset == whole.offset + 2 * 5
