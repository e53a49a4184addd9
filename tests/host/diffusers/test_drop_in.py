"""Stock diffusers pipelines with a quantized denoiser: their images, and folders and schedules that make none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
from ditto_zynq.hls.artefact.model import ArtefactError, load
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.diffusers.drop_in import load_pipeline, wrap
from ditto_zynq.host.runtime.model import load as load_model
from ditto_zynq.host.runtime.session import DEFO, DIFFERENCE, ORIGINAL
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.common.options import SCHEDULERS
from ditto_zynq.quant.quantize import Schedule, quantize

from tests.host.stock_pipelines import CALLS, STEPS, psnr, run
from tests.pipelines import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stock_pipeline_with_a_quantized_denoiser(folders, family):
    folder, quantized = folders(family)
    pipeline = load_pipeline(quantized)
    exact = type(pipeline).from_pretrained(folder, scheduler=pipeline.scheduler)
    found, expected = run(pipeline, family), run(exact, family)
    assert found.shape == expected.shape and psnr(found, expected) > (24 if family == "latte" else 27)


@pytest.mark.parametrize("family", ["stable_diffusion", "dit", "latte"])
@pytest.mark.hls
def test_c_simulation_and_every_flow_give_the_same_images(folders, family, csim_cache):
    _, quantized = folders(family)
    config = default_config("zcu104")
    devices = (
        (EmulatorDevice(config, differences=True), DIFFERENCE),
        (EmulatorDevice(config, backend="numpy"), ORIGINAL),
        (EmulatorDevice(config), DEFO),
        (CSimDevice(config, cache=csim_cache), DIFFERENCE),
    )
    expected = run(load_pipeline(quantized), family)
    for device, flow in devices:
        assert np.array_equal(run(load_pipeline(quantized, device, flow), family), expected), (device.name, flow)


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"ddpm", "ddim"}))
def test_other_schedulers(folders, scheduler):
    folder, quantized = folders("stable_diffusion", scheduler)
    pipeline = load_pipeline(quantized)
    assert type(pipeline.scheduler) is SCHEDULERS[scheduler]
    exact = type(pipeline).from_pretrained(folder, scheduler=pipeline.scheduler)
    assert psnr(run(pipeline, "stable_diffusion"), run(exact, "stable_diffusion")) > 27
    with pytest.raises(ValueError, match=r"found no context, expected one of shape \(1, 24, 32\)"):
        load_model(quantized).generate(1)


def test_setting_the_attribute_of_a_loaded_pipeline(folders):
    """As the README says it: the user's own pipeline, callbacks and output types."""
    folder, quantized = folders("stable_diffusion")
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.unet = wrap(quantized)
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, int(timestep), tensors["latents"].shape))
        return tensors

    found = run(pipeline, "stable_diffusion", callback_on_step_end=callback)
    assert [step for step, *_ in seen] == list(range(STEPS)) and seen[0][2] == (1, 4, 32, 32)
    assert np.array_equal(found, run(load_pipeline(quantized), "stable_diffusion"))
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(num_inference_steps=STEPS, generator=torch.manual_seed(0), **CALLS["stable_diffusion"]).images
    assert images[0].size == (64, 64)


def test_an_image_does_not_depend_on_the_runs_before(folders):
    _, quantized = folders("stable_diffusion")
    pipeline = load_pipeline(quantized)
    first = run(pipeline, "stable_diffusion")
    other = run(pipeline, "stable_diffusion", prompt="french fries")
    run(pipeline, "stable_diffusion", prompt=["french fries", "low quality"])
    assert np.array_equal(run(pipeline, "stable_diffusion"), first) and not np.array_equal(first, other)


def test_the_folder_has_the_whole_pipeline(folders):
    folder, quantized = folders("stable_diffusion")
    for part in ("vae", "text_encoder", "tokenizer"):
        for path in (folder / part).iterdir():
            assert (quantized / part / path.name).read_bytes() == path.read_bytes()
    assert "vae/config.json" in json.loads((quantized / "manifest.json").read_text())["sha256"]
    assert load(quantized).component == "unet" and load(folders("dit")[1]).component == "transformer"


def test_a_missing_part_is_named(folders, tmp_path):
    _, quantized = folders("stable_diffusion")
    shutil.copytree(quantized, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "vae")
    with pytest.raises(ArtefactError, match=r"vae.*is missing"):
        load_pipeline(tmp_path / "model")
    folder, _ = folders("stable_diffusion")
    shutil.copytree(folder, tmp_path / "float")
    shutil.rmtree(tmp_path / "float" / "tokenizer")
    with pytest.raises(ValueError, match="has no tokenizer, which its prompts need; add them"):
        quantize(tmp_path / "float", tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"_class_name": None},
            "found scheduler class None, which diffusers .* does not have; quantize the model again",
        ),
        ({"_class_name": "FooScheduler"}, "found scheduler class 'FooScheduler', which diffusers .* does not have"),
        (
            {"_class_name": "VQDiffusionScheduler"},
            "VQDiffusionScheduler of diffusers .* does not take the model's 4 steps",
        ),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEulerDiscreteScheduler .* does not (run|take)"),
        ({"beta_schedule": "laplace"}, "DDIMScheduler of diffusers .* 4 steps: laplace is not implemented"),
        ({"num_train_timesteps": 3}, "DDIMScheduler of diffusers .* does not take the model's 4 steps"),
    ],
)
@pytest.mark.parametrize("with_rule", [True, False])
def test_schedulers_that_diffusers_does_not_have_or_run(folders, change, message, with_rule):
    artefact = load(folders("ddim")[1])
    quantization = {name: value for name, value in artefact.quantization.items() if with_rule or name != "rule"}
    other = dataclasses.replace(artefact, scheduler={**artefact.scheduler, **change}, quantization=quantization)
    with pytest.raises(ValueError, match=message) as error:
        wrap(other)
    assert "\n" not in str(error.value) and re.search("quantize the model again", str(error.value))


def test_an_index_that_makes_no_pipeline_is_one_line(folders, tmp_path):
    shutil.copytree(folders("ddim")[1], tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "FooPipeline"}))
    manifest["sha256"]["model_index.json"] = hashlib.sha256(index.read_bytes()).hexdigest()
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"makes no FooPipeline of .*; copy or quantize the whole pipeline again"):
        load_pipeline(tmp_path / "model")


def test_another_rule_of_the_scheduler_is_refused(folders):
    """As of a release of diffusers whose scheduler steps in another way than the one that the model is quantized for."""
    artefact = load(folders("ddim")[1])
    response = [value * 1.01 for value in artefact.quantization["rule"]["response"]]
    rule = {"diffusers": "0.1.0", "response": response}
    other = dataclasses.replace(artefact, quantization={**artefact.quantization, "rule": rule})
    with pytest.raises(ValueError, match=r"does not step as that of 0\.1\.0, for which the model is quantized"):
        wrap(other)


def test_a_schedule_that_the_model_was_not_quantized_for(folders):
    _, quantized = folders("stable_diffusion")
    with pytest.raises(ValueError, match=r"found timestep \d+, expected one of the schedule: 751, 501, 251, 1"):
        run(load_pipeline(quantized), "stable_diffusion", steps=7)


def test_what_cannot_be_quantized_is_named_before_calibration(folders, tmp_path):
    folder, _ = folders("dit")
    with pytest.raises(ValueError, match=r"the model has 1001 labels, .* choose some, and 1000"):
        quantize(folder, tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2))
    with pytest.raises(ValueError, match=r"found labels \[2000\], expected some of 0 to 1000"):
        quantize(folder, tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2), labels=[2000])
    with pytest.raises(ValueError, match="takes no prompts"):
        quantize(folder, tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2), labels=[1], prompts=["a"])
    sd, _ = folders("stable_diffusion")
    with pytest.raises(ValueError, match=r"found a prompt of \d+ tokens, expected at most 24"):
        quantize(sd, tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2), prompts=["word " * 60])


def test_nan_in_weights_is_named(folders, tmp_path):
    from diffusers import DiTTransformer2DModel

    folder, _ = folders("dit")
    shutil.copytree(folder, tmp_path / "broken")
    broken = DiTTransformer2DModel.from_pretrained(folder, subfolder="transformer")
    broken.proj_out_2.bias.data[3] = float("nan")
    broken.save_pretrained(tmp_path / "broken" / "transformer")
    with pytest.raises(ValueError, match=r"proj_out_2.bias: found NaN or infinity in 1 of its values"):
        quantize(tmp_path / "broken", tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2), labels=[1])
