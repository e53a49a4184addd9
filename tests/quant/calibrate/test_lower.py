"""Layers of zeros, or nearly, and tensors that never change: as good as others, in integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.artefact.model import load, save
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.quantize import quantize_denoiser

from tests.conftest import SCHEDULER_CONFIG
from tests.pipelines import dit, unet2d

RESNET = "down_blocks.0.resnets.0"
CLOSE = 0.15  # of the float output's norm: beyond the 0.08 that 8 bits leave of these small U-Nets
LAYERS = {
    "conv_out": ("conv_out.weight",),
    "conv_out and its bias": ("conv_out.",),
    "conv1 and its bias": (f"{RESNET}.conv1.",),
    "a norm": (f"{RESNET}.norm1.",),
    "keys": ("down_blocks.1.attentions.0.to_k.weight",),
    "values": ("down_blocks.1.attentions.0.to_v.",),
    "all but the norms": ("conv_in.", "down_blocks.0.resnets.0.conv", "mid", "up", "conv_out."),
    "everything": ("",),
}


def scale(model: torch.nn.Module, prefixes: tuple[str, ...], factor: float) -> torch.nn.Module:
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        parameter.data += 0.1 * torch.randn_like(parameter) if parameter.ndim == 1 else 0
        parameter.data *= factor if name.startswith(prefixes) else 1
    return model.eval()


@torch.no_grad()
def compare(model: torch.nn.Module, folder, labels=None, component="unet") -> None:
    """Quantized, written, and read again, its first step is that of the float model."""
    save(
        quantize_denoiser(
            model, SCHEDULER_CONFIG, Schedule("ddim", 2, 0.0, 1), Options(2), labels, component=component
        ),
        folder,
    )
    artefact = load(folder)
    graph, scales = artefact.graph, artefact.scales
    sample = torch.randn(2, *graph.sample_shape, generator=torch.Generator().manual_seed(1))
    codes = graph.encode(sample.double().numpy(), scales[graph.input][0])
    values = Interpreter(graph, artefact.tables).step(codes, 0, np.zeros(2, int))[graph.output]
    found = graph.decode(values, scales[graph.output][0])
    known = {} if labels is None else {"class_labels": torch.tensor(labels[:1] * 2)}
    expected = model(sample, timestep=torch.tensor([artefact.timesteps[0]] * 2), **known).sample.numpy()
    error = np.linalg.norm(found[:, : expected.shape[1]] - expected)
    assert error <= CLOSE * np.linalg.norm(expected) + 1e-9


@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e-9])
@pytest.mark.parametrize("layers", LAYERS)
def test_layers_of_a_unet(layers, factor, tmp_path):
    torch.manual_seed(0)
    compare(scale(unet2d(), LAYERS[layers], factor), tmp_path / "model")


@pytest.mark.parametrize(
    "layers", [("proj_out",), ("transformer_blocks.0.norm1",), ("transformer_blocks", "pos_embed")]
)
def test_layers_of_a_transformer(layers, tmp_path):
    """As adaLN-Zero begins."""
    torch.manual_seed(0)
    compare(scale(dit().transformer, layers, 0.0), tmp_path / "model", [1, 1000], "transformer")


def test_one_row_of_many(tmp_path):
    torch.manual_seed(0)
    unet = scale(unet2d(), (), 1.0)
    unet.conv_in.weight.data[1] = 0
    unet.conv_out.weight.data[0] = 1e-30
    compare(unet, tmp_path / "model")
