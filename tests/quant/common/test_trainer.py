"""A training run can be interrupted, and ends with the same weights."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
import torch
from ditto_zynq.quant.common import trainer
from ditto_zynq.quant.zoo.ddpm import DDPMRecipe, train_ddpm
from safetensors.torch import load_file

pytestmark = pytest.mark.usefixtures("one_thread", "small_data")
RECIPE = DDPMRecipe(steps=6, decay_steps=2, warmup_steps=2, batch=4, channels=(8, 32))


def test_learning_rate_warms_up_stays_and_decays():
    recipe = DDPMRecipe(steps=100, decay_steps=20, warmup_steps=10, learning_rate=1.0)
    rates = [recipe.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[10:80] == [1.0] * 70
    assert rates[90] == pytest.approx(0.5) and rates[99] == pytest.approx(0.05)


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    """A real SIGINT in the fourth step: that step is kept, and the run goes on after it."""
    train_ddpm(RECIPE, tmp_path / "whole", save_every=100)
    batch_indices = trainer.batch_indices
    steps = []

    def interrupted_in_the_fourth(step, *rest):
        steps.append(step)
        if len(steps) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return batch_indices(step, *rest)

    monkeypatch.setattr(trainer, "batch_indices", interrupted_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        train_ddpm(RECIPE, tmp_path / "parts", save_every=100)
    assert not (tmp_path / "parts" / "unet").exists()
    train_ddpm(RECIPE, tmp_path / "parts", save_every=100)
    assert steps == [0, 1, 2, 3, 4, 5], "a finished step was repeated"
    whole, parts = (
        load_file(tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors") for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_recipe_is_not_resumed(tmp_path):
    train_ddpm(replace(RECIPE, steps=1), tmp_path)
    with pytest.raises(
        ValueError, match="was trained with another batch, seed; use the same, or another output folder"
    ):
        train_ddpm(replace(RECIPE, steps=1, batch=5, seed=1), tmp_path)
