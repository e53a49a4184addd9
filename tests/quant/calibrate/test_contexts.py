"""Contexts that are not like calibration's: weighted prompts, and a first token many times as large as all others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from ditto_zynq.hls.contract.arithmetic import decode_codes, encode_input
from ditto_zynq.host.diffusers.drop_in import wrap
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.quantize import quantize_denoiser

from tests.conftest import SCHEDULER_CONFIG
from tests.quant.small import CROSS_ATTENTION as UNET

TOKENS, CHANNELS, COUNT = 5, 10, 4
SCHEDULE = Schedule("ddim", 2, 0.0, 1)


@pytest.fixture(scope="module")
def unet():
    """Of random weights, made to listen to its context."""
    torch.manual_seed(0)
    model = UNet2DConditionModel(**UNET).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("attn2.to_out.0.weight"):
            parameter.data *= 30
    return model


def contexts(seed: int, first: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Of prompts and of the empty one, whose first token is ``first`` times as large, as text encoders' is."""
    prompts = torch.randn(COUNT, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(seed))
    empty = torch.randn(1, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(99)).expand_as(prompts).clone()
    prompts[:, 0] = empty[:, 0]
    for each in (prompts, empty):
        each[:, 0] *= first
    return prompts, empty


@torch.no_grad()
def error(unet, artefact, context: torch.Tensor) -> float:
    """Squared, of the predicted noise against the float model's, relative to it."""
    denoiser, worst = wrap(artefact), 0.0
    for step, timestep in enumerate(artefact.timesteps):
        sample = torch.randn(COUNT, *artefact.graph.sample_shape, generator=torch.Generator().manual_seed(step))
        expected = unet(sample, timestep, context).sample
        found = denoiser(sample, timestep, context).sample
        worst = max(worst, float((found - expected).square().mean() / expected.var()))
    return worst


def quantized(unet, given: tuple[torch.Tensor, torch.Tensor], **options):
    return quantize_denoiser(unet, SCHEDULER_CONFIG, SCHEDULE, Options(COUNT, fine=0, **options), context=given)


def test_weighted_prompts_find_room_in_the_codes(unet):
    given, (test, empty) = contexts(0), contexts(1)
    weighted = torch.lerp(empty, test, 1.5)
    prepared, plain = (quantized(unet, given, prompt_weight=weight) for weight in (1.5, 1.0))
    assert error(unet, prepared, weighted) < 0.5 * error(unet, plain, weighted)
    assert error(unet, prepared, test) < 1.5 * error(unet, plain, test)


def test_a_context_has_fine_codes(unet):
    artefact = quantized(unet, contexts(0, first=20.0))
    graph = artefact.graph
    assert graph.context_parts == 2 and graph.context_shape == (TOKENS, CHANNELS)
    values = contexts(1, first=20.0)[0].double().numpy()
    scale = artefact.scales[graph.context][0]
    assert scale == pytest.approx(2 * np.abs(values[:, 0]).max() / 128), (
        "every first token is the same, with room for twice it"
    )
    known = graph.decode_context(graph.encode_context(values, scale), scale)
    coarse = decode_codes(encode_input(values[:, :, None], scale, parts=1), scale, parts=1)[:, :, 0]
    assert np.abs(known - values).max() <= scale / 32 * 1.0001 < scale / 3 < np.abs(coarse - values).max()
