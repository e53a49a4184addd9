"""Tracing follows the module's dataflow: the traced float graph computes what the module computes."""

from __future__ import annotations

import logging

import pytest
import torch
from diffusers import UNet2DModel
from ditto_zynq.hls.contract.operators import Concat, Convolution, Quantize
from ditto_zynq.quant.calibrate.lower import check_lowering
from ditto_zynq.quant.calibrate.network import QuantizedNetwork
from ditto_zynq.quant.common.options import Options
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.trace.tracing import trace
from torch import nn

TIMESTEPS = [900, 400, 0]
COMMON = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
VARIANTS = {
    "plain": {},
    "labels": {"num_class_embeds": 4},
    "scale_shift": {"resnet_time_scale_shift": "scale_shift"},
    "scaled_blocks": {"mid_block_scale_factor": 1.41421356},
    "asymmetric_downsampling": {"downsample_padding": 0},
    "resnet_resampling": {"downsample_type": "resnet", "upsample_type": "resnet"},
    "resnet_blocks": {
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    },
    "no_attention": {
        "add_attention": False,
        "down_block_types": ("DownBlock2D",) * 2,
        "up_block_types": ("UpBlock2D",) * 2,
    },
    "many_heads": {"attention_head_dim": 2},
    "wide_rectangle": {"sample_size": (4, 12)},
    "freq_shift": {"flip_sin_to_cos": False, "freq_shift": 1},
    "no_mid_block": {"mid_block_type": None},  # the first skip is the first operand of the way up, too
    "centered": {"center_input_sample": True},
    "relu": {"act_fn": "relu"},
    "mish": {"act_fn": "mish"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_traced_graph_equals_the_module(variant):
    torch.manual_seed(1)
    unet = UNet2DModel(**{**COMMON, **VARIANTS[variant]}).eval()
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    traced = trace(unet, (3, height, width), TIMESTEPS, [0, 0, 1])
    model = QuantizedNetwork(traced, Options())
    sample = torch.randn(5, 3, height, width)
    labels = torch.arange(5) % traced.graph.labels
    kwargs = {"class_labels": labels} if traced.graph.labels > 1 else {}
    for step, timestep in enumerate(TIMESTEPS):
        with torch.no_grad():
            expected, found = unet(sample, timestep, **kwargs).sample, model(sample, step, labels)
        assert torch.allclose(found, expected, atol=2e-5), f"step {step}: {(found - expected).abs().max():.2g}"


def test_the_architecture_of_ddpm_for_cifar10_traces_whole(cifar10_unet):
    assert sum(parameter.numel() for parameter in cifar10_unet.parameters()) == pytest.approx(35.7e6, rel=0.01)
    graph = trace(cifar10_unet, (3, 32, 32), [500], [0]).graph
    modules = {name for name, module in cifar10_unet.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    lowered = {node.module for node in graph.nodes if isinstance(node, Convolution)}
    conditioning = {name for name in modules if "time_emb" in name}
    assert lowered == modules - conditioning, "every layer that sees the sample is in the graph, and no other"


def test_one_quantizer_serves_all_readers(tiny_model):
    quantized = [node.inputs[0] for node in tiny_model.graph.nodes if isinstance(node, Quantize)]
    assert len(quantized) == len(set(quantized))


class Odd(nn.Module):
    """A module with operators that the hardware does not have."""

    class config:
        num_class_embeds = None

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.Tanh()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, sample, timestep):
        return self.last(self.depthwise(self.act(self.conv(sample))) + timestep.float().mean())


def test_unsupported_operators_are_reported_with_name_module_and_shape():
    with pytest.raises(UnsupportedOperator) as error:
        trace(Odd(), (3, 6, 6), [1], [0])
    message = str(error.value)
    assert "aten.tanh in act on [(2, 8, 6, 6)]: no such operator" in message


class Masked(nn.Module):
    class config:
        num_class_embeds = None

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, groups=1)
        self.grouped = nn.Conv2d(3, 6, 3, padding=1, groups=3)

    def forward(self, sample, timestep):
        return self.conv(sample), self.grouped(sample)


def test_all_unsupported_operators_are_reported_together():
    class Two(Masked):
        def forward(self, sample, timestep):
            first = torch.sin(self.conv(sample))
            second = self.grouped(sample)
            return torch.cat([first, second], dim=1)

    with pytest.raises(UnsupportedOperator) as error:
        trace(Two(), (3, 6, 6), [1], [0])
    message = str(error.value)
    assert "aten.sin" in message and "aten.conv2d in grouped on [(2, 3, 6, 6)]: dilated and grouped" in message


def test_a_result_divided_by_its_time():
    """The Fourier embedding of score-based models (Song et al. 2021), which has no value at time 0."""
    torch.manual_seed(1)
    unet = UNet2DModel(**{**COMMON, "time_embedding_type": "fourier"}).eval()
    model = QuantizedNetwork(trace(unet, (3, 8, 8), [900, 400, 20], [0, 0, 1]), Options())
    sample, labels = torch.randn(2, 3, 8, 8), torch.zeros(2, dtype=torch.long)
    for step, timestep in enumerate([900, 400, 20]):
        with torch.no_grad():
            expected, found = unet(sample, torch.full((2,), timestep)).sample, model(sample, step, labels)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(UnsupportedOperator, match="at timestep 0 that is not finite"):
        trace(unet, (3, 8, 8), [0], [0])


class Concatenating(nn.Module):
    """Tensors in several concatenations: the sample, a concatenation, and one twice."""

    class config:
        num_class_embeds = None

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(24, 3, 1)

    def forward(self, sample, timestep):
        hidden = self.first(sample)
        joined = torch.cat([hidden, sample, hidden], dim=1)
        return self.last(torch.cat([joined, hidden, sample, sample], dim=1)) - 0.5 * sample


def test_any_tensor_may_be_part_of_several_concatenations():
    torch.manual_seed(1)
    model = Concatenating().eval()
    traced = trace(model, (3, 6, 6), TIMESTEPS, [0, 0, 1])
    sample, labels = torch.randn(4, 3, 6, 6), torch.zeros(4, dtype=torch.long)
    quantized = QuantizedNetwork(traced, Options())
    with torch.no_grad():
        assert torch.allclose(quantized(sample, 0, labels), model(sample, 0), atol=1e-6)
    parts = [name for node in traced.graph.nodes if isinstance(node, Concat) for name in node.inputs]
    assert len(set(parts)) == len(parts) == 7


def test_a_concatenation_around_an_activation_is_refused_by_the_graph_alone():
    class Tied(Masked):
        def forward(self, sample, timestep):
            return self.conv(self.act(torch.cat([self.grouped(sample), sample], 1)))

    model = Tied()
    model.conv, model.grouped, model.act = nn.Conv2d(9, 3, 1), nn.Conv2d(3, 6, 1), nn.SiLU()
    with pytest.raises(UnsupportedOperator, match="around an activation cannot share its scale with a concatenation"):
        check_lowering(trace(model, (3, 6, 6), [1], [0]).graph)


def test_an_operand_changed_in_place_and_read_again_is_refused():
    class InPlace(Masked):
        def forward(self, sample, timestep):
            hidden = self.conv(sample)
            rows = hidden.reshape(len(sample), 8, 36)
            return torch.relu_(hidden) + rows.reshape(hidden.shape)

    with pytest.raises(UnsupportedOperator, match="changed in place and read again"):
        trace(InPlace(), (3, 6, 6), [1], [0])


@pytest.mark.parametrize("copy", [torch.clone, lambda x: torch.ops.aten._to_copy(x).flatten(2).reshape(x.shape)])
def test_a_copy_may_be_changed_in_place(copy):
    class InPlace(Masked):
        def forward(self, sample, timestep):
            hidden = self.conv(sample)
            copied = copy(hidden)
            copied.add_(self.conv(2 * sample))
            return copied + hidden

    torch.manual_seed(1)
    model = InPlace().eval()
    quantized = QuantizedNetwork(trace(model, (3, 6, 6), [1], [0]), Options())
    sample = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        found, expected = quantized(sample, 0, torch.zeros(2, dtype=torch.long)), model(sample, 1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_copy_of_what_is_changed_afterwards_is_a_reading():
    class InPlace(Masked):
        def forward(self, sample, timestep):
            hidden = self.conv(sample)
            rows = hidden.reshape(len(sample), 8, 36)
            return hidden.clone().relu_() + torch.relu_(hidden) + rows.clone().reshape(hidden.shape)

    with pytest.raises(UnsupportedOperator, match="changed in place and read again"):
        trace(InPlace(), (3, 6, 6), [1], [0])


def test_a_model_that_does_not_run_says_so():
    class Broken(Masked):
        def forward(self, sample, timestep):
            return self.conv(sample) + sample[:, :, :-1]

    with pytest.raises(UnsupportedOperator, match=r"does not run on samples of \(3, 6, 6\)"):
        trace(Broken(), (3, 6, 6), [1], [0])


@pytest.mark.parametrize("raised", [TypeError, AttributeError, KeyError, AssertionError, IndexError])
def test_whatever_a_model_raises_is_one_line_that_names_the_module(raised, capfd):
    class Raising(nn.Module):
        def forward(self, sample):
            raise raised("no added conditions\nwere given")

    class Outer(Masked):
        def __init__(self):
            super().__init__()
            self.inner = nn.ModuleDict({"block": Raising()})

        def forward(self, sample, timestep):
            return self.inner["block"](self.conv(sample))

    with pytest.raises(UnsupportedOperator) as error:
        trace(Outer(), (3, 6, 6), [1], [0])
    message = str(error.value)
    assert raised.__name__ in message and "no added conditions" in message and message.endswith(" in inner.block")
    assert "\n" not in message


def test_torch_logs_nothing_of_an_operator_that_fails(caplog):
    class Broken(Masked):
        def forward(self, sample, timestep):
            return torch.ops.aten.silu(torch.ops.aten.cat([sample, sample[:, :, :-1]], 1))

    with pytest.raises(UnsupportedOperator, match="does not run on samples"):
        trace(Broken(), (3, 6, 6), [1], [0])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_a_handler_does_not_expect_is_named():
    """A convolution of a sample without a batch: the handler fails before it can say why."""

    class Flat(Masked):
        def forward(self, sample, timestep):
            return self.conv(sample.flatten(0, 1)[:3].contiguous()).unsqueeze(0) + sample.sum()

    with pytest.raises(UnsupportedOperator) as error:
        trace(Flat(), (3, 6, 6), [1], [0])
    assert "aten.slice" in str(error.value) and "\n" not in str(error.value)
