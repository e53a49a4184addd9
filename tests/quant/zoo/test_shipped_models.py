"""The pipelines that the repository ships: stock diffusers folders, small enough, and good in 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, DiTPipeline, LattePipeline, StableDiffusionPipeline
from ditto_zynq import host, quant
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.diffusers.drawing import Request, draw
from ditto_zynq.host.diffusers.drop_in import load_pipeline
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.judge.quality import psnr
from ditto_zynq.quant.quantize import Schedule, quantize

MODELS = Path(quant.__file__).parent / "models"
KINDS = {"emoji-text": StableDiffusionPipeline, "emoji-class": DiTPipeline, "emoji-video": LattePipeline}
LARGEST = 60_000_000  # bytes of all models together, without their cards and pictures


def test_they_are_small():
    files = [
        path
        for folder in (MODELS, Path(host.__file__).parent / "models")
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert sum(path.stat().st_size for path in files if path.suffix not in (".md", ".png")) < LARGEST


@pytest.mark.parametrize("kind", KINDS)
def test_they_have_cards_and_no_code(kind):
    assert "FID-MobileNetV2" in (MODELS / kind / "README.md").read_text()
    suffixes = {path.suffix for path in (MODELS / kind).rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".md", ".txt", ".png", ".jsonl"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_quantized_they_draw_what_they_drew(kind, tmp_path):
    """Same-seed images of four steps, step-wise W8A8 on the emulator, beside the stock pipeline in float32."""
    steps, prompts, labels = 4, ["red heart"], []
    options = {"prompts": prompts * 3}
    if kind == "emoji-class":
        prompts, labels, options = [], [6], {"labels": [6, 1000]}
    quantize(MODELS / kind, tmp_path / "model", Schedule("ddim", steps, 0.0, 2), Options(3, fine=0), **options)
    quantized = load_pipeline(tmp_path / "model", EmulatorDevice(default_config("zcu104"), counting=False))
    exact = DiffusionPipeline.from_pretrained(MODELS / kind, dtype=torch.float32, use_safetensors=True)
    assert type(exact) is KINDS[kind] and type(quantized) is KINDS[kind]
    exact.scheduler = quantized.scheduler
    for pipeline in (exact, quantized):
        pipeline.set_progress_bar_config(disable=True)
    expected, found = (draw(each, Request(prompts, labels, 0, 4.0), [0], steps) for each in (exact, quantized))
    assert np.isfinite(found).all()
    assert psnr(found * 2 - 1, expected * 2 - 1).mean() > 20
