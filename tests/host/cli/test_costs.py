"""``profile``: what it counts."""

from __future__ import annotations

import json

from tests.host.cli.commands import invoke


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
