"""``generate`` of a pipeline: its images, its seeds and noise, what it says and leaves behind."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from ditto_zynq.hls.artefact.model import ArtefactError
from ditto_zynq.host.devices import opening as devices
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.diffusers.drawing import Request, batches, pipeline_model
from ditto_zynq.host.diffusers.drop_in import load_pipeline

from tests.host.stock_pipelines import STEPS, invoke


def test_an_image_is_what_the_pipeline_makes_of_latents(folders, tmp_path, model_reads):
    """Of every class of pipeline but those of pixels, whatever its autoencoder is called."""
    _, quantized = folders("latent_diffusion")
    model_reads.clear()
    result = invoke("generate", quantized, "-n", 3, "--batch", 2, "-o", tmp_path / "x.npz", "--quiet")
    assert result.exit_code == 0 and len(model_reads) == 1, result.output
    pipeline = load_pipeline(quantized)
    generators = [torch.Generator().manual_seed(index) for index in range(3)]
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(3, generators, num_inference_steps=STEPS, output_type="np").images
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["images"].shape == (3, 16, 16, 3)
        assert np.array_equal(arrays["images"], np.rint(expected.clip(0, 1) * 255).astype(np.uint8))
    for option in ("--prompt", "--guidance"):
        refused = invoke("generate", quantized, "-n", 1, "-o", tmp_path / "y.png", option, "3")
        assert refused.exit_code == 1 and ("no prompts" in refused.output or "no guidance_scale" in refused.output)


def test_whatever_ends_generate_closes_the_device(folders, tmp_path, monkeypatch):
    """And leaves nothing in its memory; what can be refused before is, before a device is opened."""
    opened, left = [], []

    class Watched(EmulatorDevice):
        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            opened.append(self)

        def close(self):
            left.append(sum(buffer.data.size for buffer in self.buffers))
            super().close()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def broken(*_: object, **__: object) -> None:
        raise ArtefactError("the VAE is damaged")

    monkeypatch.setattr(devices, "EmulatorDevice", Watched)
    command = (
        "generate",
        folders("stable_diffusion")[1],
        "-n",
        1,
        "-o",
        tmp_path / "x.png",
        "--device",
        "emulator",
        "--quiet",
    )
    assert "give at least one, such as --prompt" in invoke(*command).output and not opened
    with monkeypatch.context() as patched:
        patched.setattr(DiffusionPipeline, "from_pretrained", broken)
        assert invoke(*command, "--prompt", "a cat").exit_code == 1
    with monkeypatch.context() as patched:
        patched.setattr(Watched, "execute", interrupted)
        assert invoke(*command, "--prompt", "a cat").exit_code == 130
    assert invoke(*command, "--prompt", "a cat").exit_code == 0
    assert len(opened) == 3 and left == [0, 0, 0]


RUN = [sys.executable, "-m", "ditto_zynq.host.cli"]
BARS = re.compile(r"((calibrate: [a-z ]+|denoise 1 of 1): )? *\d+%\|.*|device: emulator .*|compiling the emulator.*")


@pytest.mark.slow
def test_commands_say_nothing_of_other_packages(folders, tmp_path):
    """transformers, diffusers, torch and Brevitas warn of many things: none of it is for who quantizes and draws."""
    source, _ = folders("stable_diffusion")
    quantized = [
        "quantize",
        str(source),
        "-o",
        "out",
        "--steps",
        "2",
        "--groups",
        "1",
        "--trajectories",
        "1",
        "--fine",
        "0",
    ]
    for command in (quantized, ["generate", "out", "-n", "1", "--prompt", "french fries", "-o", "x.png"]):
        run_ = subprocess.run([*RUN, *command], capture_output=True, text=True, cwd=tmp_path)
        assert run_.returncode == 0, run_.stderr
        lines = [line for line in re.split(r"[\r\n]+", run_.stderr) if line.strip()]
        assert lines and not [line for line in lines if not BARS.fullmatch(line)]
    assert "device: emulator (zcu104 configuration)" in lines, "the last command's"
    assert [line for line in lines if line.startswith("denoise 1 of 1: ")]
    summary = subprocess.run([*RUN, *command, "--summary", "x.txt"], capture_output=True, text=True, cwd=tmp_path)
    assert summary.returncode == 1 and "count what its denoiser costs with: ditto-zynq profile out" in summary.stderr
    labels = subprocess.run([*RUN, *command, "--labels", "3"], capture_output=True, text=True, cwd=tmp_path)
    assert labels.returncode == 1
    assert labels.stderr == "Error: found --labels 3, but the model has no classes; leave --labels out\n"


def test_large_seeds_of_pipelines_are_refused(folders, tmp_path):
    """torch's generator looks at 32 bits of a seed: 2**32 would draw the images of 0."""
    arguments = ("generate", folders("latent_diffusion")[1], "-n", 1, "-o", tmp_path / "x.png", "--seed", 2**32)
    refused = invoke(*arguments)
    assert refused.exit_code == 1 and "found seed 4294967296, expected one from 0 to 2**32 - 1" in refused.output


def test_steps_have_the_noise_that_the_model_was_quantized_for(folders):
    """eta is no part of a scheduler's configuration; each pipeline passes it on, or has no such argument."""
    images = []
    for family, eta in (("stable_diffusion", 0.0), ("stable_diffusion", 1.0), ("dit", 1.0)):
        pipeline = load_pipeline(folders(family)[1])
        denoiser = pipeline_model(pipeline)
        noisy = denoiser.artefact.quantization | {"eta": eta}
        denoiser.artefact = dataclasses.replace(denoiser.artefact, quantization=noisy)
        request = Request(("french fries",), (), 0, 1.0) if family != "dit" else Request((), (1,), 0, None)
        if family == "dit":
            with pytest.raises(ValueError, match="DiTPipeline takes no eta"):
                next(batches(pipeline, request, 1, [0], progress=False))
        else:
            images.append(next(batches(pipeline, request, 1, [0], progress=False)).samples)
    assert not np.array_equal(*images)
