"""Judging pipelines: features, references, requests, and a whole evaluation of a small pipeline."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tomllib
from ditto_zynq.hls.common.notices import SampleWarning
from ditto_zynq.quant.judge.evaluate import (
    CLASSIFIER,
    Judge,
    Requests,
    choose,
    load_reference,
    sample,
    warn_of_few_images,
)
from PIL import Image

ROOT = Path(__file__).parents[3]
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3)).astype(np.uint8)


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
