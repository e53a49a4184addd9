from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.graph import with_context_tokens
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet


@pytest.mark.parametrize("tokens", [0, 65536, 10**6])
def test_contexts_of_more_tokens_than_tensors_hold_are_refused(tokens):
    graph = next(graph for _, graph in map(random_unet, range(20)) if graph.context is not None)
    with pytest.raises(ValueError, match=r"found 0 tokens of context|found 65536, expected an int|found 1000000, exp"):
        with_context_tokens(graph, tokens)


@pytest.mark.parametrize("twice", ["a part", "a concatenation", "the sample"])
def test_what_is_not_stored_in_one_concatenation_alone_is_no_part(twice):
    build = GraphBuilder(0)
    sample = build.input((4, 4, 6))
    value = build.convolution(sample, 6)
    joined = build.concat(value, build.convolution(sample, 6))
    parts = {"a part": (value,), "a concatenation": (joined,), "the sample": (sample, sample)}[twice]
    again = build.concat(*parts)
    with pytest.raises(
        ValueError, match=f"found '{parts[0]}' as a part, expected a result that is part of nothing else"
    ):
        build.graph(again)


def test_shapes_that_do_not_fit_are_refused():
    build = GraphBuilder(0)
    source = build.input((4, 4, 6))
    with pytest.raises(ValueError, match="does not fit"):
        build.convolution(source, 3, (5, 5))
    value = build.convolution(source, 6)
    smaller = build.average_pool(value)
    with pytest.raises(ValueError, match="expected equal"):
        build.add(value, smaller)
    with pytest.raises(ValueError, match="cannot be cut into 4 groups"):
        build.group_norm(value, 4)
    with pytest.raises(ValueError, match=r"found a crop of \(0, 2\), expected 0 to 1 rows and columns"):
        build.upsample(value, 2, (0, 2))
