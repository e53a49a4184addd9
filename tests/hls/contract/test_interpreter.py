"""The reference against independent statements of the same operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.contract import operators
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.operators import Convolution
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.contract.references import Reference
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
)
def test_convolution_is_that_of_pytorch_in_float64(seed, size, kernel, stride, padding):
    height, width, channels = size
    top, bottom, left, right = padding
    if height + top + bottom < kernel[0] or width + left + right < kernel[1]:
        return
    random = np.random.default_rng(seed)
    codes = random.integers(-128, 128, (2, *size))
    weight = random.integers(-127, 128, (5, *kernel, channels))
    image = torch.nn.functional.pad(torch.tensor(codes.transpose(0, 3, 1, 2)).double(), (left, right, top, bottom))
    expected = torch.nn.functional.conv2d(image, torch.tensor(weight.transpose(0, 3, 1, 2)).double(), stride=stride)
    found = operators.convolution.convolve(codes, weight, stride, padding)
    assert np.array_equal(found, expected.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("size", [(1, 2), (4, 5), (5, 9)])
def test_upsampling_to_an_odd_size_is_that_of_pytorch(size):
    """As diffusers asks for where a skip has an odd size: 2 n - 1 of n."""
    build = GraphBuilder(0)
    source = build.input((*size, 3))
    larger = build.upsample(source, crop=(1, 0))
    graph = build.graph(build.convolution(larger, 2))
    codes = build.codes(2)
    found = Interpreter(graph, build.tables).step(codes, 0)[larger]
    image = torch.from_numpy(codes.transpose(0, 3, 1, 2)).float()
    expected = torch.nn.functional.interpolate(image, size=(2 * size[0] - 1, 2 * size[1]), mode="nearest")
    assert np.array_equal(found, expected.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_products_are_those_of_einsum(heads):
    random = np.random.default_rng(heads)
    q, k, v = (random.integers(-128, 128, (2, 3, 4, heads * 5)) for _ in range(3))
    split = [x.reshape(2, 12, heads, 5) for x in (q, k, v)]
    scores = np.einsum("bqhd,bkhd->bhqk", split[0], split[1])
    assert np.array_equal(operators.attention.attention_scores(q, k, heads), scores)
    p = random.integers(0, 128, (2, heads, 12, 12))
    mixed = np.einsum("bhqk,bkhd->bqhd", p, split[2]).reshape(2, 12, heads * 5)
    assert np.array_equal(operators.attention.attention_mix(p, v, heads), mixed)


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


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 5)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    padding=st.tuples(*[st.integers(0, 5)] * 4),
)
def test_spatial_differences_of_every_shape(seed, size, kernel, stride, padding):
    """Windows beyond either end, strides wider than the image, all-padding columns."""
    if size[0] + padding[0] + padding[1] < kernel[0] or size[1] + padding[2] + padding[3] < kernel[1]:
        return
    build = GraphBuilder(seed)
    graph = build.graph(build.convolution(build.input(size), 3, kernel, stride, padding))
    codes = build.codes(2)
    expected, found = (
        Interpreter(graph, build.tables).step(codes, 0, references=each)[graph.output]
        for each in (Reference.ZERO, Reference.NEIGHBOUR)
    )
    assert np.array_equal(found, expected)


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


def test_an_accumulator_beyond_int32_is_an_error():
    build = GraphBuilder(0)
    output = build.convolution(build.input((1, 1, 2)), 1)
    graph = build.graph(output)
    tables = {**build.tables, f"{output}.weight": np.full((1, 1, 1, 2), 2**24, np.int64)}
    assert isinstance(graph.nodes[0], Convolution)
    with pytest.raises(OverflowError, match="left int32"):
        Interpreter(graph, tables).step(np.full((1, 1, 1, 2), 127), 0)
