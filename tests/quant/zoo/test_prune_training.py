"""The command of scripts/prune."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from ditto_zynq.quant.zoo import prune_training
from ditto_zynq.quant.zoo.ddpm_pruning import PrunedDDPMRecipe


def result(criterion, seed, accuracy, macs=0.4):
    return {"criterion": criterion, "seed": seed, "accuracy": accuracy, "macs": macs, "of_dense": macs}


def test_means_of_all_seeds_are_said(monkeypatch, tmp_path):
    results = [
        result("reprune", 0, 0.9, 1.0),
        result("reprune", 0, 0.8),
        result("reprune", 1, 0.9),
        result("l1", 0, 0.7),
    ]
    results.append(result("random", 0, 0.6))
    monkeypatch.setattr(prune_training, "compare_criteria", lambda *_: results)
    found = CliRunner().invoke(prune_training.main, ["resnet", "--out", str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines() == [
        "dense: accuracy 0.9000 (from 0.9000 to 0.9000), 100.0% of the multiplications",
        "reprune: accuracy 0.8500 (from 0.8000 to 0.9000), 40.0% of the multiplications",
        "l1: accuracy 0.7000 (from 0.7000 to 0.7000), 40.0% of the multiplications",
        "random: accuracy 0.6000 (from 0.6000 to 0.6000), 40.0% of the multiplications",
    ]


@pytest.mark.parametrize("command", ["resnet", "ddpm"])
@pytest.mark.parametrize("macs", [0, 1, 2])
def test_shares_that_are_none(command, macs):
    found = CliRunner().invoke(prune_training.main, [command, "--macs", str(macs)])
    assert found.exit_code == 1 and "expected the share of multiplications to keep, between 0 and 1" in found.output


def test_what_is_left_of_the_ddpm_is_said(monkeypatch, tmp_path):
    recipes = []

    def trained(recipe, out):
        recipes.append(recipe)
        return {"multiplications": {"pruned": 1_200, "dense": 2_000, "share": 0.6}}

    monkeypatch.setattr(prune_training, "train_pruned_ddpm", trained)
    options = ["--macs", "0.6", "--criterion", "l1", "--steps", "90", "--decay-steps", "9", "--interval", "10"]
    found = CliRunner().invoke(
        prune_training.main, ["ddpm", "--out", str(tmp_path), *options, "--last-pruning", "20", "--seed", "3"]
    )
    assert found.exit_code == 0 and found.stdout == f"{tmp_path}: 1,200 of 2,000 multiplications (60.0%)\n"
    expected = PrunedDDPMRecipe(macs=0.6, criterion="l1", steps=90, decay_steps=9, interval=10, last_pruning=20, seed=3)
    assert recipes == [expected]
