"""The reference against independent statements of the same operators."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.contract.references import Reference
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_differences_never_change_a_value(seed):
    """acc_prev + W . (q - q_prev) = W . q, for every operator, across step-group changes, whatever the mix of references."""
    build, graph = random_unet(seed)
    direct, *others = (Interpreter(graph, build.tables) for _ in range(4))
    codes, labels = build.codes(2), build.random.integers(0, graph.labels, 2)
    context = build.codes(2, graph.context) if graph.context else None
    for step in range(graph.steps):
        expected = direct.step(codes, step, labels, context=context)
        allowed = [Reference.ZERO, Reference.NEIGHBOUR, Reference.PREVIOUS_STEP][: 3 if step else 2]
        mixed = {node.name: allowed[build.random.integers(len(allowed))] for node in graph.linear_nodes}
        for runner, choice in zip(others, (allowed[-1], Reference.NEIGHBOUR, mixed), strict=True):
            found = runner.step(codes, step, labels, choice, context)
            assert all(np.array_equal(found[name], expected[name]) for name in expected)
        codes = build.next_codes(codes)


def test_a_previous_step_that_never_ran_is_an_error():
    build, graph = random_unet(5)
    runner = Interpreter(graph, build.tables)
    with pytest.raises(ValueError, match="n0: there is no previous step to refer to"):
        runner.step(build.codes(1), 0, references=Reference.PREVIOUS_STEP)
    runner.step(build.codes(1), 0)
    assert set(runner.history.operands) == {node.name for node in graph.linear_nodes}
    runner.step(build.codes(1), 1, references=Reference.PREVIOUS_STEP)
    runner.reset()
    with pytest.raises(ValueError, match="no previous step"):
        runner.step(build.codes(1), 2, references=Reference.PREVIOUS_STEP)


def test_the_reference_does_not_decide():
    build, graph = random_unet(5)
    with pytest.raises(ValueError, match="expected what Defo has decided for"):
        Interpreter(graph, build.tables).step(build.codes(1), 0, references=Reference.DEFO)
