"""Costs and samples of models whose schedule only diffusers has."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from ditto_zynq.hls.artefact.model import save as save_artefact
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.diffusers.drop_in import load_pipeline
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.schedulers import standard_normal
from ditto_zynq.host.runtime.session import ORIGINAL
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.common.options import SCHEDULERS
from ditto_zynq.quant.quantize import Schedule, quantize, quantize_denoiser

from tests.host.stock_pipelines import STEPS, invoke, psnr, run
from tests.pipelines import dit, unet2d


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"ddpm", "ddim"}))
def test_costs_of_a_schedule_that_only_diffusers_has(scheduler, tmp_path):
    """Counted on the samples that diffusers' scheduler makes of the model's outputs, whatever ran before or beside them."""
    options = Options(1, norm=0.0, correct_biases=False, fine=0)
    artefact = quantize_denoiser(unet2d(), {}, Schedule(scheduler, STEPS, 0.0, 1), options)
    model = Model(artefact, EmulatorDevice(default_config("zcu104")))
    alone = model.denoise_as_calibrated(1, 3).samples
    counted = model.denoise_as_calibrated(2, 3)
    assert np.array_equal(counted.samples[:1], alone) and not np.array_equal(counted.samples[1:], alone)
    theirs = SCHEDULERS[scheduler].from_config(dict(artefact.scheduler))
    theirs.set_timesteps(STEPS)
    assert counted.record.counters.shape[0] == len(theirs.timesteps)
    if scheduler != "lcm":  # whose steps add noise
        sample = standard_normal(3, 0, 0, artefact.graph.sample_shape)[None]
        sample = torch.from_numpy(sample) * theirs.init_noise_sigma
        for step, timestep in enumerate(theirs.timesteps):
            asked = theirs.scale_model_input(sample, timestep).numpy()
            output = model.session(1).run_step(asked, step, np.zeros(1, np.int64), ORIGINAL)
            sample = theirs.step(torch.from_numpy(output), timestep, sample).prev_sample
        assert np.array_equal(alone, sample.numpy())
    drawn = model.generate(2, seed=3, batch=1, progress=False)
    assert np.array_equal(drawn.samples, counted.samples), "whatever the batch"
    save_artefact(artefact, tmp_path / "model")
    command = ("generate", tmp_path / "model", "-n", 2, "--seed", 3, "-o", tmp_path / "x.npz", "--quiet")
    assert (made := invoke(*command)).exit_code == 0, made.output
    with np.load(tmp_path / "x.npz") as arrays:
        assert np.array_equal(arrays["samples"], drawn.samples)
    for command in ("profile", "compare"):
        counted = invoke(command, tmp_path / "model", "--batch", 1, "--json")
        assert counted.exit_code == 0, counted.output
    assert json.loads(counted.stdout.splitlines()[-1])["steps"] == len(theirs.timesteps)
    assert model.throughput_test(1)["steps"] == len(theirs.timesteps)


def test_learned_variance_runs_in_the_drop_in(tmp_path):
    """Of a pixel model: the runtime's own sampler has none, diffusers' has, and costs are counted with it."""
    unet = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=6,
        layers_per_block=1,
        block_out_channels=(4, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    DDPMPipeline(unet, DDPMScheduler(variance_type="learned_range")).save_pretrained(tmp_path / "float")
    artefact = quantize(tmp_path / "float", tmp_path / "model", Schedule("ddpm", 3, 0.0, 1), Options(2, fine=0))
    pipeline = load_pipeline(tmp_path / "model")
    exact = type(pipeline).from_pretrained(tmp_path / "float", scheduler=pipeline.scheduler)
    assert psnr(run(pipeline, "ddpm", 3), run(exact, "ddpm", 3)) > 27
    model = Model(artefact, EmulatorDevice(default_config("zcu104")))
    alone = model.denoise_as_calibrated(1, 3).samples
    assert np.array_equal(model.denoise_as_calibrated(2, 3).samples[:1], alone)
    assert model.throughput_test(1)["steps"] == 3
    assert np.array_equal(model.generate(1, seed=3, progress=False).samples, alone)


@pytest.mark.parametrize("kind", ["ddim", "euler", "pndm", "lcm"])
def test_a_transformer_with_a_variance_under_schedulers_that_take_none(kind):
    """They keep the variance_type of DDPM's configuration, and read nothing of it."""
    torch.manual_seed(0)
    config = {"_class_name": "DDPMScheduler", "variance_type": "learned_range", "clip_sample": False}
    artefact = quantize_denoiser(
        dit().transformer, config, Schedule(kind, 4, 0.0, 1), Options(1, fine=0), [1, 1000], component="transformer"
    )
    model = Model(artefact, EmulatorDevice(default_config("zcu104"), counting=False))
    samples = model.denoise_as_calibrated(2, labels=[1]).samples
    assert samples.shape == (2, *artefact.graph.sample_shape) and np.isfinite(samples).all()
    if kind == "ddim":
        assert model.generate(2, [1], progress=False).samples.shape == samples.shape
