"""Pruning the bundled architecture while it is trained, a little."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMPipeline
from ditto_zynq.quant.prune.allocation import Grain
from ditto_zynq.quant.prune.macs import macs
from ditto_zynq.quant.prune.narrow import NarrowUNet2DModel
from ditto_zynq.quant.zoo import ddpm_pruning
from ditto_zynq.quant.zoo.ddpm_pruning import INPUTS, PrunedDDPMRecipe, train_pruned_ddpm
from safetensors.torch import load_file

pytestmark = pytest.mark.usefixtures("one_thread", "small_data")
RECIPE = PrunedDDPMRecipe(
    steps=5,
    decay_steps=2,
    warmup_steps=1,
    batch=4,
    channels=(16, 32),
    macs=0.6,
    interval=1,
    last_pruning=2,
    grain=Grain(8, 8),
)


def weights(folder):
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def test_the_result_is_a_pipeline_with_narrow_layers(tmp_path):
    report = train_pruned_ddpm(RECIPE, tmp_path)
    found = report["multiplications"]
    pipeline = DDPMPipeline.from_pretrained(tmp_path)
    assert type(pipeline.unet) is NarrowUNet2DModel and pipeline.unet.config.widths
    assert macs(pipeline.unet, INPUTS) == found["pruned"] <= 0.6 * found["dense"] and found["share"] > 0.3
    assert json.loads((tmp_path / "pruning.json").read_text())["multiplications"] == found
    assert not list(tmp_path.glob("phase-*"))


def test_phases_have_all_steps_and_seeds_of_their_own():
    recipe = PrunedDDPMRecipe(steps=20_000, interval=1_000, last_pruning=8_000)
    phases = [recipe.phase(index) for index in range(recipe.choices + 1)]
    assert sum(phase.steps for phase in phases) == 20_000 and len({phase.seed for phase in phases}) == 9
    assert phases[3].learning_rate_at(999) == recipe.learning_rate > phases[8].learning_rate_at(11_999) * 1_000


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path, monkeypatch):
    train_pruned_ddpm(RECIPE, tmp_path / "whole")
    original, done = ddpm_pruning.trained, []

    def interrupting(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments)
        return original(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ddpm_pruning, "trained", interrupting)
        train_pruned_ddpm(RECIPE, tmp_path / "parts")
    train_pruned_ddpm(RECIPE, tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(ValueError, match="is of another recipe; use the same one, or another output folder"):
        train_pruned_ddpm(replace(RECIPE, seed=1), tmp_path / "parts")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"macs": 1.0}, "found macs 1.0, expected the share of multiplications to keep, between 0 and 1"),
        ({"interval": 2, "last_pruning": 3}, "found the last choice at step 3, expected a multiple of 2 steps"),
        ({"last_pruning": 5}, "found the last choice at step 5, expected one before step 5"),
    ],
)
def test_recipes_that_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **wrong)


def test_a_share_that_cannot_be_is_refused_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(ddpm_pruning, "trained", lambda *_: pytest.fail("training began"))
    with pytest.raises(ValueError, match="multiplications with every layer at its fewest channels"):
        train_pruned_ddpm(replace(RECIPE, macs=0.01), tmp_path / "out")
    assert not (tmp_path / "out").exists()
