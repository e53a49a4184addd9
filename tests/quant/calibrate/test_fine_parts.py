"""Two-part ends: the float model stays what it was, the quantized one comes closer to it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from ditto_zynq.hls.contract.arithmetic import decode_output, encode_input
from ditto_zynq.hls.contract.graph import check_graph
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.contract.tensor import CODE
from ditto_zynq.quant.calibrate.calibration import Options, calibrate
from ditto_zynq.quant.calibrate.fine_parts import add_fine_ends
from ditto_zynq.quant.calibrate.network import FLOAT, QUANTIZED, QuantizedNetwork
from ditto_zynq.quant.trace.tracing import FloatModel, trace
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SCHEDULER_CONFIG

TIMESTEPS = [800, 400, 0]


@pytest.fixture(scope="module")
def traced(tiny_unet):
    return trace(tiny_unet, (3, 8, 8), TIMESTEPS, [0, 0, 0])


@given(
    x=st.lists(st.floats(-10, 10), min_size=12, max_size=12),
    scale=st.floats(1e-3, 1.0),
)
def test_an_input_in_two_parts_is_known_to_a_32nd_of_a_step(x, scale):
    sample = np.array(x).reshape(1, 3, 2, 2)
    sample = sample.transpose(0, 2, 3, 1)  # as it is stored
    codes = encode_input(sample, scale, parts=2)
    assert codes.dtype == np.int8 and codes.shape == (1, 2, 2, 6)
    assert np.array_equal(codes[..., :3], encode_input(sample, scale, parts=1))
    known = (codes[..., :3] + codes[..., 3:] / 16.0) * scale
    inside = np.abs(sample) < 127 * scale
    assert np.all(np.abs(known - sample)[inside] <= scale / 32 * 1.0001)


def test_a_context_in_two_parts_is_known_to_a_32nd_of_a_step():
    build = GraphBuilder(0)
    context = build.context((3, 1, 10))
    sample = build.quantize(build.convolution(build.input((2, 2, 1)), 4))
    scores = build.scores(sample, build.convolution(context, 4, kind=CODE), 1)
    graph = build.graph(build.mix(build.softmax(scores), build.convolution(context, 4, kind=CODE), 1))
    fine = dataclasses.replace(graph, context_parts=2)
    assert graph.context_shape == (3, 10) and fine.context_shape == (3, 5)
    values = np.random.default_rng(0).normal(0, 4, (2, 3, 5))
    codes = fine.encode_context(values, 0.125)
    assert codes.dtype == np.int8 and codes.shape == (2, 3, 1, 10)
    assert np.abs(fine.decode_context(codes, 0.125) - values).max() <= 0.125 / 32 * 1.0001
    with pytest.raises(ValueError, match="found a context in 2 parts, expected 1, or 2 of an even number of channels"):
        odd = build.tensors | {"context": dataclasses.replace(graph.tensors["context"], shape=(3, 1, 9))}
        check_graph(dataclasses.replace(fine, tensors=odd))


def test_an_output_is_the_sum_of_its_parts():
    values = np.random.default_rng(0).integers(-(2**15), 2**15, (2, 3, 4, 6)).astype(np.int16)
    wide = values.astype(np.int64)
    assert np.array_equal(decode_output(values, 0.5, 1), wide * 0.5)
    assert np.array_equal(decode_output(values, 0.5, 2), (wide[..., :3] + wide[..., 3:]) * 0.5)


def test_the_float_model_stays_what_it_was(tiny_unet, traced):
    fine = add_fine_ends(traced)
    assert fine.graph.sample_shape == (3, 8, 8) == traced.graph.sample_shape
    assert fine.graph.tensors[fine.graph.input].shape == (8, 8, 6)
    assert fine.graph.tensors[fine.graph.output].shape == (8, 8, 6)
    model = QuantizedNetwork(fine, Options())
    sample, labels = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(3)
    with torch.no_grad():
        assert model.mode == FLOAT
        for step, timestep in enumerate(TIMESTEPS):
            expected = tiny_unet(sample, timestep, class_labels=labels).sample
            assert torch.allclose(model(sample, step, labels), expected, atol=2e-5)


def test_the_quantized_model_comes_closer_to_the_float_one(tiny_unet, traced):
    scheduler = DDIMScheduler.from_config(SCHEDULER_CONFIG)
    scheduler.set_timesteps(3)
    errors = []
    for model in (traced, add_fine_ends(traced)):
        quantized, trajectories = calibrate(model, scheduler, Options(4, correct_biases=False, fine=0))
        assert quantized.mode == QUANTIZED
        error = 0.0
        for step, sample in enumerate(trajectories.samples):
            with torch.no_grad():
                expected = tiny_unet(sample, TIMESTEPS[step], class_labels=trajectories.labels).sample
                error += float((quantized(sample, step, trajectories.labels) - expected).square().mean())
        errors.append(error)
    assert errors[1] < 0.9 * errors[0]


def test_ends_that_are_no_convolutions_are_left_alone():
    build = GraphBuilder(0)
    sample = build.input((4, 4, 2))
    larger = build.upsample(sample)
    hidden = build.convolution(larger, 3)
    graph = build.graph(build.add(hidden, hidden))
    assert add_fine_ends(FloatModel(graph, {})).graph == graph
