"""Attention runs window by window and head by head as the contract says, large heads too, and counts digits of both operands."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators import attention as contract
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.forms import Attention
from ditto_zynq.hls.machine.isa import Opcode
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.operators import attention_execution
from ditto_zynq.host.operators.attention_execution import AttentionDigits, split_heads

from tests.host.operators.small import CONFIG
from tests.host.runs import assert_equal_everywhere, run_both


def test_heads_are_those_of_the_contract():
    codes = np.arange(2 * 12 * 6).reshape(2, 12, 6)
    for heads, windows in ((1, 1), (3, 1), (2, 4)):
        expected = contract.split_heads(codes[:, :, None], heads, windows)
        assert np.array_equal(split_heads(codes, heads, windows), expected)


@pytest.mark.parametrize("flow", ["original", "difference"])
@pytest.mark.parametrize(("windows", "interleaved"), [(1, False), (3, False), (4, True)])
@pytest.mark.parametrize("large", [False, True], ids=["together", "head by head"])
def test_results_are_those_of_the_reference(no_reuse, monkeypatch, flow, windows, interleaved, large):
    if large:
        monkeypatch.setattr(attention_execution, "LARGE_HEAD", 1)
    build = GraphBuilder(2)
    source = build.input((3, 4, 5))
    q, k, v = (build.convolution(source, 6, kind="code") for _ in range(3))
    p = build.softmax(build.scores(q, k, 2, windows, interleaved))
    graph = build.graph(build.mix(p, v, 2, "value", (3, 4), windows, interleaved))
    for session, expected in run_both(build, graph, EmulatorDevice(CONFIG, counting=False), flow):
        assert_equal_everywhere(session, expected)


def test_digits_by_hand():
    """2 queries of 8 channels and 3 keys: codes of two digits, their differences of one, and a key that stays the same."""
    form = Attention(opcode=Opcode.SCORES, chunk_channels=8, other_chunk_channels=8, block_rows=2)
    left, right = np.full((1, 1, 2, 8), 100, np.int8), np.full((1, 1, 8, 3), 50, np.int8)
    left_before, right_before = left - np.int8(3), right.copy()
    right_before[..., :2] -= 20  # two keys were others
    work = AttentionDigits(form, CONFIG, left, right, lambda: (left_before, right_before))
    (codes,) = work.from_zero()
    assert codes.classes.sum(axis=(0, 1, 2)).tolist() == [0, 0, 2 * 2 * 8]
    queries, keys = work.from_previous_step()
    assert queries.classes.sum(axis=(0, 1, 2)).tolist() == [0, 16, 16], "3 fits 4 bits"
    assert keys.classes.sum(axis=(0, 1, 2)).tolist() == [8, 0, 2 * 2 * 8], "20 = 16 + 4"
    (chained,) = work.from_neighbour()
    assert chained.classes.sum(axis=(0, 1, 2)).tolist() == [8, 0, 2 * 8], "the second query is the first one"
    alone = AttentionDigits(form, CONFIG, left, right, lambda: (left_before, None))
    assert len(alone.from_previous_step()) == 1
