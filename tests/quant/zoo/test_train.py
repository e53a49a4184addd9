"""The commands of scripts/train."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from ditto_zynq.quant.zoo import emoji_models, train
from ditto_zynq.quant.zoo.ddpm import DDPMRecipe


def invoke(*words):
    result = CliRunner().invoke(train.main, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_ddpm_is_trained_by_the_recipe_that_was_asked(monkeypatch):
    calls = []
    monkeypatch.setattr(train, "train_ddpm", lambda *arguments: calls.append(arguments))
    invoke("ddpm", "--out", "here", "--steps", "7", "--decay-steps", "3", "--seed", "2")
    assert calls == [(DDPMRecipe(steps=7, decay_steps=3, seed=2), Path("here"))]


@pytest.mark.parametrize("kind", ["text", "class", "video"])
def test_models_of_emoji_get_the_autoencoder(monkeypatch, kind):
    calls = []
    monkeypatch.setitem(emoji_models.TRAININGS, kind, lambda *arguments: calls.append(arguments))
    invoke("emoji", kind, "--data", "data", "--vae", "vae", "--steps", "5")
    ((recipe, *paths),) = calls
    assert recipe.steps == 5 and recipe.batch == emoji_models.RECIPES[kind].batch
    assert paths == [Path("data"), Path("vae"), Path(f"runs/emoji-{kind}")]


def test_the_accuracy_of_a_classifier_is_said(monkeypatch):
    monkeypatch.setattr(train, "train_classifier", lambda out, epochs: 0.5 if epochs == 2 else 0)
    assert invoke("classifier", "--out", "x.safetensors", "--epochs", "2") == "x.safetensors: test accuracy 0.5000\n"
