"""``profile`` and ``compare``: what they count."""

from __future__ import annotations

import json
import shutil

from tests.host.cli.commands import invoke, refused


def test_profile_counts(tiny_folder, tmp_path):
    output = tmp_path / "profile.json"
    result = invoke("profile", tiny_folder, "--batch", 2, "-o", output, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(output.read_text())
    assert json.loads(result.stdout.splitlines()[-1]) == data
    assert data["kind"] == "emulated" and data["steps"] == 6 and data["samples"] == 2
    first = data["operations"][0]
    assert first["name"] == "conv_in" and first["dense_products"] == [2 * 8 * 8 * 9 * 6 * 32] * 6
    assert data["total"]["cycles"] == sum(sum(operation["cycles"]) for operation in data["operations"])


def test_gains_of_a_second_model(tiny_folder, tmp_path):
    """The same model again gains nothing by itself: together is what the design gives."""
    shutil.copytree(tiny_folder, tmp_path / "second")
    result = invoke("compare", tiny_folder, tmp_path / "second", "--batch", 1, "--gains")
    assert result.exit_code == 0, result.output
    [line] = [
        line
        for line in result.stdout.splitlines()
        if line.startswith("second") and "ditto+" in line and "cycles" in line
    ]
    *_, by_model, by_design, product, together, kept = line.split()
    assert (by_model, kept) == ("1.00", "100%") and by_design == product == together
    refusal = refused(invoke("compare", tiny_folder, "--gains"))
    assert "found --gains with 1 model, expected two or more, on a board" in refusal
