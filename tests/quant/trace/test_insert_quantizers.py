"""Linear operators read codes, and there are no more quantizers than that takes."""

from __future__ import annotations

import torch
from ditto_zynq.hls.contract.operators import Convolution, LinearNode, Quantize, Upsample
from ditto_zynq.hls.contract.tensor import CODE
from torch import nn

from tests.quant.between import Between, assert_traced_as_it_is


def kinds_of(model: Between) -> list[type]:
    """The operators in their order; every linear one reads codes."""
    graph = assert_traced_as_it_is(model).graph
    for node in graph.nodes:
        assert not isinstance(node, LinearNode) or {graph.tensors[name].kind for name in node.inputs} == {CODE}
    return [type(node) for node in graph.nodes]


def test_one_quantizer_serves_all_readers(tiny_model):
    quantized = [node.inputs[0] for node in tiny_model.graph.nodes if isinstance(node, Quantize)]
    assert len(quantized) == len(set(quantized))


def test_a_layer_that_layers_alone_read_writes_codes_itself():
    assert kinds_of(Between(nn.Conv2d(4, 4, 3, padding=1))) == [Convolution] * 3


def test_a_quantizer_moves_in_front_of_an_upsampling():
    upsampled = Between(nn.Sequential(nn.SiLU(), nn.Upsample(scale_factor=2)))
    assert kinds_of(upsampled)[-3:] == [Quantize, Upsample, Convolution]


def test_the_sample_is_read_as_values_through_a_layer_that_changes_nothing():
    class Skip(Between):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(sample)) + sample + nn.functional.relu(sample)

    kinds = kinds_of(Skip(nn.Identity()))
    assert kinds.count(Convolution) == 3, "one more, for both readers"
