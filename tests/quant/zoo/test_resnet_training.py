"""Training and pruning the residual network, a little."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from ditto_zynq.quant.zoo import resnet_training
from ditto_zynq.quant.zoo.resnet_training import ResNetRecipe, compare_criteria, train_resnet

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = ResNetRecipe(epochs=2, images=128, tests=200, batch=64, macs=0.5, last_pruning=1)


def test_a_network_is_pruned_while_it_is_trained(tmp_path):
    result = train_resnet(RECIPE, tmp_path)
    assert result["of_dense"] <= 0.5 and 0 < result["accuracy"] <= 1
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert train_resnet(RECIPE, tmp_path) == result, "a finished one is not trained again"
    with pytest.raises(ValueError, match="is of another recipe"):
        train_resnet(replace(RECIPE, seed=1), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"macs": 0.0}, "found macs 0.0, expected the share of multiplications to keep, up to 1"),
        ({"last_pruning": 2}, "found 2 as the last epoch with a choice, expected one of 1 to 1"),
    ],
)
def test_recipes_that_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **wrong)


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    whole = train_resnet(RECIPE, tmp_path / "whole")
    original = resnet_training._Run.train_epoch

    def interrupted(run, progress):
        if run.epoch == 1:
            raise KeyboardInterrupt
        original(run, progress)

    monkeypatch.setattr(resnet_training._Run, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_resnet(RECIPE, tmp_path / "parts")
    monkeypatch.undo()
    assert train_resnet(RECIPE, tmp_path / "parts") == whole


def test_criteria_are_compared_with_the_dense_network(tmp_path):
    results = compare_criteria(replace(RECIPE, images=64), ("reprune", "random"), 1, tmp_path)
    assert [result["criterion"] for result in results] == ["reprune", "reprune", "random"]
    assert results[0]["macs"] == 1 and results[0]["of_dense"] == 1
    assert torch.get_num_threads() == 1
