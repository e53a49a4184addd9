"""The products of attention: which numbers of a descriptor are queries, keys and depth, and what never changes."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.operators import linear_operator_of
from ditto_zynq.host.studies.spot_check import Wrong

from tests.host.operators.small import Small


def attention(windows: int = 1, interleaved: bool = False, batch: int = 1) -> tuple[Small, str, str]:
    """4 x 6 pixels, 2 heads of 5 channels: scores, and what they are multiplied with."""
    build = GraphBuilder(1)
    source = build.input((4, 6, 7))
    q, k, v = (build.convolution(source, 10, kind="code") for _ in range(3))
    scores = build.scores(q, k, 2, windows, interleaved)
    mixed = build.mix(build.softmax(scores), v, 2, "value", (4, 6), windows, interleaved)
    return Small(build, mixed, batch), scores, mixed


@pytest.mark.parametrize(("windows", "interleaved"), [(1, False), (4, False), (6, True)])
def test_numbers_of_the_descriptor(windows, interleaved):
    small, scores, mixed = attention(windows, interleaved)
    tokens = 24 // windows
    for name, opcode in ((scores, Opcode.SCORES), (mixed, Opcode.MIX)):
        form = small.form(name)
        assert form.opcode == opcode and form.has(Flag.INTERLEAVED) == interleaved
        assert (form.windows, form.heads, form.instances) == (windows, 2, 2 * windows)
        assert (form.queries, form.keys, form.depth) == (tokens, tokens, 10)
        assert (form.image_height, form.image_width) == (4, 6)
        assert form.other == small.program.placements[small.operation(name).first.inputs[1]].offset
    assert small.form(scores).input_pitch == 10 and small.form(mixed).input_pitch == tokens


def test_keys_that_never_change_are_marked_and_not_kept():
    build = GraphBuilder(0)
    source, context = build.input((2, 3, 4)), build.context((1, 5, 9))
    keys, values = (build.convolution(context, 8, kind="code") for _ in range(2))
    build.hold(keys)
    scores = build.scores(build.convolution(source, 8, kind="code"), keys, 2)
    mixed = build.mix(build.softmax(scores), values, 2, image=(2, 3))
    small = Small(build, mixed)
    assert small.form(scores).has(Flag.CONSTANT_OTHER) and small.form(scores).state_other_span == 0
    assert not small.form(mixed).has(Flag.CONSTANT_OTHER), "values whose tables differ from group to group"
    assert small.form(mixed).state_other_span == 64, "5 tokens of 8 channels"


def test_shapes_of_both_products():
    """Of 2 samples of 24 queries and keys in 6 windows: 4 of each, and 5 channels a head."""
    small, scores, mixed = attention(windows=6, batch=2)
    for name, inner, outputs in ((scores, 5, 4), (mixed, 4, 5)):
        node = small.operation(name).first
        first, second = linear_operator_of(node).product_shapes(node, small.graph, 2, dense=False)
        assert (first.height, first.channels, first.outputs) == (4, inner, outputs)
        assert (second.height, second.channels, second.outputs) == (outputs, inner, 4)
        assert second.staged and second.gathered == (name == mixed)
        assert linear_operator_of(node).instances(node, 2) == 2 * 6 * 2


@pytest.mark.parametrize(("windows", "interleaved"), [(1, False), (4, False), (6, True)])
def test_samples(windows, interleaved):
    small, *names = attention(windows, interleaved)
    for name in names:
        small.check_samples(name)
        with pytest.raises(Wrong):
            small.check_samples(name, spoiled=(0, 1, 2, 3), samples=2000)
