"""``evaluate``: both pipelines drawn and judged, resumed, and refused before anything is drawn."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from ditto_zynq.hls.common.notices import PrecisionWarning
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.studies.evaluation import _warn_of_unlike
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.quantize import Schedule, quantize
from PIL import Image

from tests.helpers import change_json
from tests.pipelines import save

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3)).astype(np.uint8)


def test_evaluating_a_pipeline(tmp_path, model_reads):
    save("stable_diffusion", tmp_path / "float")
    shutil.copytree(tmp_path / "float", tmp_path / "other")
    change_json(tmp_path / "other" / "unet" / "config.json", lambda config: config.update(in_channels=3))
    quantize(tmp_path / "float", tmp_path / "model", Schedule("ddim", 2, 0.0, 1), Options(2, fine=0))
    prompts = np.array(["french fries", "low quality", "a painting"])
    np.savez(tmp_path / "set.npz", images=IMAGES, prompts=prompts, labels=np.zeros(3, np.int64))
    command = ["evaluate", str(tmp_path / "model"), "--against", str(tmp_path / "float"), "-n", "3", "--batch", "2"]
    command += ["--reference", str(tmp_path / "set.npz"), "-o", str(tmp_path / "out")]
    wrong = CliRunner().invoke(main, [*command, "--reference", "nowhere"])
    assert wrong.exit_code == 1 and "expected emoji:FOLDER" in wrong.output and not (tmp_path / "out").exists()
    for folder, message in (
        ("model", "is a quantized model, expected the float pipeline"),
        ("other", "found in_channels 3"),
    ):
        wrong = CliRunner().invoke(main, [*command, "--against", str(tmp_path / folder)])
        assert wrong.exit_code == 1 and message in wrong.output and not (tmp_path / "out").exists()
    model_reads.clear()
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0 and len(model_reads) == 1, result.output
    assert result.output.count("warning: FID-MobileNetV2 of 3 images") == 1
    quality = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert quality["quantized"]["PSNR mean"] > 25 and set(quality["float"]) == {"FID-MobileNetV2"}
    with Image.open(tmp_path / "out" / "samples.png") as picture:
        shown = np.asarray(picture)[2:-2, 2:-2]
    height, drawn = IMAGES.shape[1], np.load(tmp_path / "out" / "float" / "000000.npy")
    assert np.array_equal(shown[:height], drawn[0]) and shown.shape[0] == 6 * (height + 2) - 2
    (tmp_path / "out" / "quantized" / "000002.npy").unlink()
    result = CliRunner().invoke(main, [*command, "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "quality.json").read_text()) == quality, "a worker draws the same"
    other = CliRunner().invoke(main, [*command, "--seed", "1"])
    assert other.exit_code == 1 and "holds images of other settings" in other.output


def test_images_that_are_other_images_are_said():
    with pytest.warns(PrecisionWarning, match=r"12\.8 dB apart, .* was the model quantized from float\?"):
        _warn_of_unlike(12.8, Path("float"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _warn_of_unlike(25.0, Path("float"))
