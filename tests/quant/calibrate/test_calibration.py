"""A model is calibrated on its own float trajectories, and its shifts and fine codes bring it nearer to the float model."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from ditto_zynq.hls.contract.operators import Quantize
from ditto_zynq.quant.calibrate.calibration import Conditions, calibrate
from ditto_zynq.quant.calibrate.fine_parts import add_fine_ends, can_be_fine
from ditto_zynq.quant.calibrate.network import FLOAT, QUANTIZED
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.trace.tracing import trace

from tests.conftest import SCHEDULER_CONFIG

STEPS, GROUPS = 6, 3


def scheduler_of(steps: int) -> DDIMScheduler:
    scheduler = DDIMScheduler.from_config(SCHEDULER_CONFIG)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.fixture(scope="module")
def calibrated(tiny_unet):
    scheduler = scheduler_of(STEPS)
    group_of_step = Schedule("ddim", STEPS, 0.0, GROUPS).group_of_step()
    traced = trace(tiny_unet, (3, 8, 8), scheduler.timesteps.tolist(), group_of_step)
    return calibrate(add_fine_ends(traced), scheduler, Options(trajectories=4, norm=0.0, fine=0))


@torch.no_grad()
def test_trajectories_are_those_of_the_float_model(tiny_unet):
    """With guidance: two branches of every sample, which denoise together."""
    scheduler, scale = scheduler_of(2), 3.0
    traced = trace(tiny_unet, (3, 8, 8), scheduler.timesteps.tolist(), [0, 0])
    labels, none = torch.tensor([0, 1]), torch.tensor([2, 2])
    conditions = Conditions(labels, None, scale, (none, None))
    _, trajectories = calibrate(traced, scheduler, Options(2, 0.0, False, 0, seed=5), conditions)
    sample = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    for timestep, found in zip(scheduler.timesteps, trajectories.samples, strict=True):
        assert torch.allclose(found, torch.cat([sample, sample]), atol=1e-4)
        guided, unguided = (tiny_unet(sample, timestep, class_labels=each).sample for each in (labels, none))
        sample = scheduler.step(unguided + scale * (guided - unguided), timestep, sample).prev_sample
    assert trajectories.labels.tolist() == [0, 1, 2, 2]


def test_all_tensors_have_quantizers_and_steps_have_their_own_scales(calibrated):
    model, trajectories = calibrated
    assert len(trajectories.samples) == STEPS
    table = np.stack([model.scales(name).numpy() for name in model.graph.tensors])
    assert table.shape[1] == GROUPS and (table > 1e-9).all()
    assert (table.max(axis=1) / table.min(axis=1)).max() > 1.2, "no tensor's range varies over the steps"
    assert all(isinstance(layer, qnn.QuantConv2d) for layer in model.weights.values())


def test_bias_correction_removes_the_mean_error(tiny_unet, calibrated):
    model, trajectories = calibrated
    means: dict[str, torch.Tensor] = {}
    worst = {True: 0.0, False: 0.0}
    correction = {name: table.clone() for name, table in model.correction.items()}
    for corrected in (True, False):
        for name in model.correction:
            model.correction[name] = correction[name] if corrected else torch.zeros_like(correction[name])

        def remember(name, y):
            means[name] = y.mean(dim=(0, 2, 3))
            return y

        def compare(name, y, corrected=corrected):
            worst[corrected] += float(
                (y.mean(dim=(0, 2, 3)) - means[name]).abs().mean() / means[name].std().clamp_min(1e-6)
            )
            return y

        with torch.no_grad():
            for model.mode, model.on_convolution in ((FLOAT, remember), (QUANTIZED, compare)):
                model(trajectories.samples[3], 3, trajectories.labels)
    model.on_convolution, model.mode = None, QUANTIZED
    model.correction.update(correction)
    assert worst[True] < 0.9 * worst[False]


def test_fine_codes_go_where_they_help_most(tiny_unet):
    """Two fine tensors bring the output nearer to the float one, and the chosen two more than the average pair."""
    scheduler = DDIMScheduler.from_config(SCHEDULER_CONFIG)
    scheduler.set_timesteps(STEPS)
    traced = trace(tiny_unet, (3, 8, 8), scheduler.timesteps.tolist(), Schedule("ddim", STEPS, 0.0, 1).group_of_step())

    def calibrated_with(fine: int):
        return calibrate(traced, scheduler, Options(4, 0.0, False, fine))

    coarse, trajectories = calibrated_with(0)
    finer, _ = calibrated_with(2)

    def error(model, name: str | None = None) -> float:
        kept = model.graph, set(model.fine), dict(model.weights.items())
        if name is not None:
            model.make_fine(name)
        total = 0.0
        with torch.no_grad():
            for step, sample in enumerate(trajectories.samples):
                model.mode = FLOAT
                exact = model(sample, step, trajectories.labels)
                model.mode = QUANTIZED
                total += float((model(sample, step, trajectories.labels) - exact).abs().mean())
        model.graph, model.fine = kept[:2]
        model.weights.update(kept[2])
        return total

    chosen = {node.name for node in finer.graph.nodes if isinstance(node, Quantize) and node.fine}
    candidates = [node.name for node in traced.graph.nodes if can_be_fine(traced.graph, node.name)]
    before = error(coarse)
    gains = [before - error(coarse, name) for name in candidates if name not in chosen]
    assert len(chosen) == 2 and len(gains) > 10
    assert before - error(finer) > 2 * np.mean(gains) and error(finer) < before
