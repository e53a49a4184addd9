"""Peaked attention in 8 bits: the predicted noise of odd U-Nets whose weights are 1.5 times what they were made with."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, UNet2DModel
from ditto_zynq.hls.reference import Reference
from ditto_zynq.quant.calibrate import calibrate
from ditto_zynq.quant.fine_parts import add_fine_ends
from ditto_zynq.quant.lower import lower
from ditto_zynq.quant.options import Options
from ditto_zynq.quant.trace import trace

from tests.conftest import SCHEDULER_CONFIG

STEPS, GROUPS = 8, 4


def peaked_unet() -> UNet2DModel:
    """Attention in six places, of 192 tokens and 48."""
    torch.manual_seed(1)
    unet = UNet2DModel(
        sample_size=(16, 12),
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(10, 15),
        down_block_types=("AttnDownBlock2D", "ResnetDownsampleBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "AttnUpBlock2D"),
        norm_num_groups=5,
        attention_head_dim=5,
    ).eval()
    for parameter in unet.parameters():
        if parameter.ndim > 1:
            parameter.data *= 1.5
    return unet


def test_the_integers_stay_within_a_cosine_of_0_99():
    """Every image in every step: with one scale for all rows of the softmax 0.92."""
    unet = peaked_unet()
    scheduler = DDIMScheduler.from_config(SCHEDULER_CONFIG)
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps.tolist()
    traced = trace(unet, (3, 16, 12), timesteps, [step * GROUPS // STEPS for step in range(STEPS)])
    network, trajectories = calibrate(add_fine_ends(traced), scheduler, Options(4, fine=0))
    integer = lower(network)
    graph, reference = integer.graph, Reference(integer.graph, integer.tables)
    for step, sample in enumerate(trajectories.samples):
        group = graph.group_of_step[step]
        codes = graph.encode(sample.double().numpy(), integer.scales[graph.input][group])
        values = reference.step(codes, step)[graph.output]
        found = torch.from_numpy(graph.decode(values, integer.scales[graph.output][group]))
        with torch.no_grad():
            expected = unet(sample, timesteps[step]).sample
        assert torch.cosine_similarity(found.flatten(1), expected.double().flatten(1)).min() > 0.99
