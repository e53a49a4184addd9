"""Figures are drawn, whole, from what the commands report."""

from __future__ import annotations

import json

import numpy as np
from click.testing import CliRunner
from ditto_zynq.host.cli import main
from ditto_zynq.host.cli_costs import _draw_comparison, _short
from ditto_zynq.host.plots import subject
from PIL import Image


def is_drawn(path) -> bool:
    """A PNG with more than a white page."""
    pixels = np.asarray(Image.open(path).convert("L"))
    return min(pixels.shape) > 100 and len(np.unique(pixels)) > 20


def test_figures_of_a_profile(tiny_folder, tmp_path):
    path, folder = tmp_path / "profile.json", tmp_path / "figures"
    result = CliRunner().invoke(
        main, ["profile", str(tiny_folder), "--flow", "defo+", "--batch", "2", "--plots", str(folder), "-o", str(path)]
    )
    assert result.exit_code == 0, result.output
    names = {f"model-zcu104-defo+-{each}.png" for each in ("similarity", "bit-widths", "layers", "decisions", "cycles")}
    assert {each.name for each in folder.iterdir()} == names and all(is_drawn(folder / name) for name in names)
    data = json.loads(path.read_text())
    linear = [each for each in data["operations"] if sum(each["elements"])]
    assert set(data["similarity"]) == {each["name"] for each in linear}
    assert all(
        0 <= stall <= cycles
        for each in linear
        for stall, cycles in zip(each["stall_cycles"], each["cycles"], strict=True)
    )
    assert {reference for each in linear for reference in each["reference"]} <= {0, 1, 2}
    assert 0 < data["bops_saved"]["against_8x8"] < 1


def test_figures_of_a_comparison(tiny_folder, tmp_path):
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), "--batch", "2", "--plots", str(tmp_path)])
    assert result.exit_code == 0 and is_drawn(tmp_path / "model-zcu104-designs.png"), result.output
    options = ["--batch", "2", "--bandwidths", "2,19.2", "--plots", str(tmp_path)]
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), *options])
    assert result.exit_code == 0 and is_drawn(tmp_path / "model-zcu104-sweep.png"), result.output


def test_figures_say_what_they_are_of_and_do_not_replace_each_other(tmp_path):
    """An architecture with a model's digits, two models of one name, another board."""
    design = {
        "name": "itc", "speedup": 1.0, "dram_bytes_per_image": 1.0, "energy_uj_per_image": {"total": 1.0},
    }  # fmt: skip
    of_model = {"model": "fashion-mnist", "kind": "emulated", "configuration": {"board": "zcu104"}, "designs": [design]}
    of_architecture = {**of_model, "architecture": {"name": "cifar10"}}
    on_board = {**of_model, "configuration": {"board": "kv260"}}
    for result in (of_model, of_architecture, on_board):
        _draw_comparison([result], False, tmp_path)
    assert subject(of_architecture) == "cifar10, digits of fashion-mnist" and subject(of_model) == "fashion-mnist"
    assert {path.name for path in tmp_path.iterdir()} == {
        "fashion-mnist-zcu104-designs.png", "cifar10-digits-of-fashion-mnist-zcu104-designs.png",
        "fashion-mnist-kv260-designs.png",
    }  # fmt: skip
    assert _short("a/model", ["a/model", "b/model"]) == "a/model" and _short("a/one", ["a/one", "b/model"]) == "one"


def test_a_file_in_the_place_of_the_folder(tiny_folder, tmp_path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["profile", str(tiny_folder), "--plots", str(tmp_path / "file")])
    assert result.exit_code == 1 and "is a file, expected a folder" in result.stderr
