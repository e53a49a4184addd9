"""Models with a width for each layer: their folders, and what they refuse."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch_pruning as tp
from diffusers import DDIMScheduler, DDPMPipeline, DiffusionPipeline
from diffusers.models.attention_processor import Attention
from ditto_zynq.quant.prune.allocation import Grain
from ditto_zynq.quant.prune.coupling import channel_groups
from ditto_zynq.quant.prune.narrow import (
    NarrowUNet2DModel,
    adopt,
    channels_of,
    config_of,
    empty,
    narrow_kind,
    stock_kind,
)
from ditto_zynq.quant.prune.surgery import kept_positions, transfer, widths_of
from ditto_zynq.quant.prune_model import PruningOptions, allot, cut

from tests.quant.prune.models import inputs_of, text_unet, unet


def narrowed(dense):
    groups = [group for group in channel_groups(dense, inputs_of(dense)) if group.name.endswith("conv1")]
    kept = kept_positions(dense, groups, {group.name: np.arange(group.size // 2) for group in groups})
    model = narrow_kind(dense).from_config({**config_of(dense), "widths": widths_of(dense, kept)}).eval()
    transfer(dense, model, kept)
    return model


@pytest.mark.parametrize("make", [unet, text_unet])
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_a_round_trip_to_disk(make, low_cpu_mem_usage, tmp_path):
    model = narrowed(make())
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
    assert again.config.widths == model.config.widths != {} and list(again.config.block_out_channels) == [16, 32]
    inputs = inputs_of(model)
    with torch.no_grad():
        assert torch.equal(again(**inputs).sample, model(**inputs).sample)


def test_a_stock_pipeline_loads_it(tmp_path):
    model = narrowed(unet())
    DDPMPipeline(model, DDIMScheduler()).save_pretrained(tmp_path)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(pipeline.unet) is NarrowUNet2DModel
    DiffusionPipeline.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert type(DiffusionPipeline.from_pretrained(tmp_path / "again").unet) is NarrowUNet2DModel


def test_without_widths_it_is_the_stock_model():
    stock = unet()
    model = NarrowUNet2DModel.from_config(dict(stock.config))
    model.load_state_dict(stock.state_dict())
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs_of(stock)).sample, stock(**inputs_of(stock)).sample)
    assert stock_kind(model) is stock_kind(stock) is type(stock)


def test_a_model_that_another_tool_has_pruned_is_adopted(tmp_path):
    model = unet()
    inputs = inputs_of(model)
    foreign = copy.deepcopy(model)
    graph = tp.DependencyGraph().build_dependency(foreign, example_inputs=inputs)
    layer = foreign.down_blocks[1].resnets[0].conv1
    graph.get_pruning_group(layer, tp.prune_conv_out_channels, idxs=[0, 9, 17, 30]).prune()
    own = adopt(foreign)
    assert channels_of(own.down_blocks[1].resnets[0].conv1) == (28, 16)
    own.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = foreign(**inputs).sample
        assert torch.equal(NarrowUNet2DModel.from_pretrained(tmp_path)(**inputs).sample, expected)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"down_blocks.7.conv": (4, 4)}, "widths: found 'down_blocks.7.conv', which the model does not have"),
        ({"conv_in": (17, 2)}, r"widths: found \[17, 2\] of conv_in, expected 1 to \[16, 2\] channels"),
        ({"conv_in": (0, 2)}, r"widths: found \[0, 2\] of conv_in"),
        (
            {"conv_norm_out": (10, 10)},
            "widths: found 10 channels of conv_norm_out, expected a multiple of its 4 groups",
        ),
    ],
)
def test_widths_that_cannot_be(widths, message):
    with pytest.raises(ValueError, match=message):
        NarrowUNet2DModel.from_config({**unet().config, "widths": widths})


def test_a_model_that_is_narrow_already_is_adopted():
    dense = unet()
    once = cut(dense, allot(dense, inputs_of(dense), PruningOptions(0.6, grain=Grain(4, 4)))).model
    again = adopt(once)
    pairs = zip(once.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_heads_that_another_tool_has_made_thinner_are_not_adopted():
    model = text_unet()
    attention = next(module for module in model.modules() if isinstance(module, Attention))
    half = attention.to_q.out_features // 2
    for name in ("to_q", "to_k", "to_v"):
        layer = getattr(attention, name)
        layer.weight = torch.nn.Parameter(layer.weight[:half].detach().clone())
        layer.out_features = half
    attention.to_out[0].weight = torch.nn.Parameter(attention.to_out[0].weight[:, :half].detach().clone())
    attention.to_out[0].in_features = half
    with pytest.raises(ValueError, match=r"found \d+ heads at .*, expected \d+: heads go as whole ones"):
        adopt(model)


def test_models_of_other_kinds():
    with pytest.raises(ValueError, match="found a Linear, expected one of UNet2DModel, UNet2DConditionModel"):
        narrow_kind(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="found ReLU, expected a convolution"):
        channels_of(torch.nn.ReLU())


def test_an_empty_model_has_no_memory():
    assert {parameter.device.type for parameter in empty(type(unet()), unet().config).parameters()} == {"meta"}
