"""Tracing follows the module's dataflow: the traced float graph computes what the module computes."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DModel
from ditto_zynq.hls.contract.operators import Convolution
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


def test_what_a_handler_does_not_expect_is_named():
    """A convolution of a sample without a batch: the handler fails before it can say why."""

    class Flat(Masked):
        def forward(self, sample, timestep):
            return self.conv(sample.flatten(0, 1)[:3].contiguous()).unsqueeze(0) + sample.sum()

    with pytest.raises(UnsupportedOperator) as error:
        trace(Flat(), (3, 6, 6), [1], [0])
    assert "aten.slice" in str(error.value) and "\n" not in str(error.value)
