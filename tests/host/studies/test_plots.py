"""Figures are drawn, whole, from what the commands report."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from click.testing import CliRunner
from ditto_zynq.hls.artefact.model import load, save
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.cli.costs import _draw_comparison, _short
from ditto_zynq.host.studies.plots import chosen_references, draw_steps, stem, subject
from matplotlib.figure import Figure
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
    digest = load(tiny_folder).digest[:6]
    names = {
        f"model-{digest}-zcu104-defo+-{each}.png"
        for each in ("similarity", "bit-widths", "layers", "decisions", "cycles")
    }
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
    name = f"model-{load(tiny_folder).digest[:6]}-zcu104"
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), "--batch", "2", "--plots", str(tmp_path)])
    assert result.exit_code == 0 and is_drawn(tmp_path / f"{name}-designs.png"), result.output
    options = ["--batch", "2", "--bandwidths", "2,19.2", "--plots", str(tmp_path)]
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), *options])
    assert result.exit_code == 0 and is_drawn(tmp_path / f"{name}-sweep.png"), result.output


def test_figures_say_what_they_are_of_and_do_not_replace_each_other(tmp_path):
    """An architecture with a model's digits, two models of one name, another board."""
    design = {"name": "itc", "speedup": 1.0, "dram_bytes_per_image": 1.0, "energy_uj_per_image": {"total": 1.0}}
    of_model = {
        "model": "fashion-mnist",
        "digest": "0123456789",
        "kind": "emulated",
        "configuration": {"board": "zcu104"},
        "designs": [design],
    }
    of_architecture = {**of_model, "architecture": {"name": "cifar10"}}
    on_board = {**of_model, "configuration": {"board": "kv260"}}
    of_another = {**of_model, "digest": "9876543210"}
    for result in (of_model, of_architecture, on_board, of_another):
        _draw_comparison([result], False, tmp_path)
    assert subject(of_architecture) == "cifar10, digits of fashion-mnist" and subject(of_model) == "fashion-mnist"
    assert {path.name for path in tmp_path.iterdir()} == {
        "fashion-mnist-012345-zcu104-designs.png",
        "cifar10-digits-of-fashion-mnist-012345-zcu104-designs.png",
        "fashion-mnist-012345-kv260-designs.png",
        "fashion-mnist-987654-zcu104-designs.png",
    }
    long, other = (stem(tmp_path, ["n" * 200] * 9, ["01", last], "zcu104", "defo+")("x").name for last in ("2", "3"))
    assert long.endswith("-zcu104-defo+-x.png") and len(long) < 180 and long != other
    assert _short("a/model", ["a/model", "b/model"]) == "a/model" and _short("a/one", ["a/one", "b/model"]) == "one"


def test_two_models_of_one_folder_name_have_figures_of_their_own(tiny_model, tmp_path):
    for place, scale in (("a", 1.0), ("b", 2.0)):
        scales = {name: scale * values for name, values in tiny_model.scales.items()}
        save(replace(tiny_model, scales=scales), tmp_path / place / "model")
        arguments = ["profile", str(tmp_path / place / "model"), "--batch", "1", "--plots", str(tmp_path / "figures")]
        assert CliRunner().invoke(main, arguments).exit_code == 0
    assert len(list((tmp_path / "figures").iterdir())) == 2 * 5


def test_a_file_in_the_place_of_the_folder(tiny_folder, tmp_path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["profile", str(tiny_folder), "--plots", str(tmp_path / "file")])
    assert result.exit_code == 1 and "is a file, expected a folder" in result.stderr


def test_an_output_and_figures_of_one_name(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("profile", "compare"):
        result = CliRunner().invoke(main, [command, str(tiny_folder), "-o", "x", "--plots", "./x"])
        assert (
            result.exit_code == 1
            and "found x for the output and the figures, expected a file and a folder" in result.stderr
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_does_not_run_or_choose_is_masked():
    """A layer of every step, one that rests in the second, and one that is the same in all steps and runs once."""
    layers = [
        {"elements": [5, 5, 5], "reference": [0, 1, 2]},
        {"elements": [5, 0, 5], "reference": [0, 0, 1]},
        {"elements": [5, 0, 0], "reference": [0, 0, 0]},
    ]
    assert chosen_references(layers).tolist() == [[0, 1, 2], [0, None, 1], [None, None, None]]


def test_steps_are_whole_and_the_first_is_1():
    axis = Figure().subplots()
    draw_steps(axis, np.zeros((2, 3)))
    assert axis.get_xlim() == (0.5, 3.5) and axis.get_xlabel() == "denoising step (the first is 1)"
    assert {1, 2, 3} <= set(axis.get_xticks()) <= set(range(5))
