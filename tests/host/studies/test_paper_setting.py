"""Ditto's own setting: the ceiling that its PE counts allow, by hand, and what bandwidth does to it."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.studies.paper_setting import compare
from ditto_zynq.host.studies.similarity import Similarity


@pytest.fixture
def paper_classes(tiny_model) -> Similarity:
    """The paper's average fractions in every layer and step: 44.48 % zero, 51.52 % of 4 bits, 4 % more."""
    nodes, steps = tiny_model.graph.linear_nodes, tiny_model.graph.steps - 1
    fractions = np.broadcast_to([0.4448, 0.5152, 0.04], (steps, len(nodes), 3))
    one = np.ones((steps, len(nodes)))
    return Similarity(
        tuple(node.name for node in nodes),
        np.full(len(nodes), 1e9),
        {"temporal": one, "spatial": one},
        {"temporal": one},
        dict.fromkeys(("original", "temporal", "spatial"), fractions),
    )


def speedups(data) -> dict[str, float]:
    return {design["name"]: design["speedup"] for design in data["designs"]}


def test_the_ceiling_by_hand(tiny_model, paper_classes):
    """1.425 times the multipliers, 0.595 slots per product: 2.39 with every layer computing; attention takes two products."""
    found = speedups(compare(tiny_model, paper_classes, 1e9, history_on_chip=True))
    ratio, slots, steps = 39_398 / 27_648, 0.5152 + 2 * 0.04, tiny_model.graph.steps
    products = sum(node.name.endswith(("scores", "mix")) for node in tiny_model.graph.linear_nodes)
    layers = len(tiny_model.graph.linear_nodes)
    each = slots * (layers + products) / layers
    expected = steps * ratio / (2 + (steps - 1) * each)
    assert found["difference"] == pytest.approx(expected, rel=1e-6)
    assert found["diffy"] == pytest.approx(ratio / slots, rel=1e-6) and ratio / slots == pytest.approx(2.39, abs=0.01)
    assert found["itc"] == 1 and found["ditto"] >= found["difference"]


def test_slow_memory_takes_it_away_and_defo_gives_some_back(tiny_model, paper_classes):
    found = [compare(tiny_model, paper_classes, gb, False) for gb in (0.01, 1e9)]
    slow, fast = map(speedups, found)
    assert slow["difference"] < 1 < fast["difference"]
    assert slow["ditto"] == slow["ditto+"] == pytest.approx(1, rel=0.01)
    traffic = {design["name"]: design["traffic"] for design in found[1]["designs"]}
    assert traffic["itc"] == traffic["diffy"] == 1 < traffic["cambricon-d"] < traffic["difference"]


def test_bad_requests(tiny_model, paper_classes, tiny_folder):
    with pytest.raises(ValueError, match="found a bandwidth of 0 GB/s, expected more than 0"):
        compare(tiny_model, paper_classes, 0, False)
    with pytest.raises(
        ValueError, match=r"the history of 1,000,000 samples has [\d,]+ bytes, expected at most 201,326,592"
    ):
        compare(tiny_model, paper_classes, 1, True, batch=1_000_000)
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), "--setting", "papers"])
    assert result.exit_code == 1 and "found setting 'papers', expected board or paper" in result.stderr
    for ignored in (["--architecture", "sd15"], ["--plots", str(tiny_folder.parent / "figures")]):
        result = CliRunner().invoke(main, ["compare", str(tiny_folder), "--setting", "paper", *ignored])
        assert result.exit_code == 1 and "expected them with --setting board" in result.stderr
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), "--setting", "paper", "--batch", "60000"])
    assert result.exit_code == 1 and "take a smaller --batch" in result.stderr and "similarity" not in result.stderr
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), "--setting", "paper", "--batch", "2"])
    assert result.exit_code == 0 and "Ditto's setting (table III)" in result.stdout
