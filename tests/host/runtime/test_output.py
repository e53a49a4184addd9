"""Finished batches of a run that was interrupted."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.host.runtime.output import Run

from tests.host.cli.commands import invoke


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no archive"),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:200] + b"?" + path.read_bytes()[201:]),
        lambda path: np.savez(path, other=np.zeros(3)),
        lambda path: np.savez(path, samples=np.zeros((1, 3, 8, 8))),
        lambda path: np.savez(path, samples=np.full((2, 3, 8, 8), 3)),
    ],
)
def test_a_damaged_batch_of_an_interrupted_run_is_made_again(tiny_folder, tmp_path, monkeypatch, damage):
    arguments = ("generate", tiny_folder, "-n", 4, "-o", tmp_path / "images.npz", "--batch", 2, "--quiet")
    assert invoke(*arguments).exit_code == 0
    with np.load(tmp_path / "images.npz") as arrays:
        expected = arrays["samples"]
    discard = Run.discard
    monkeypatch.setattr(Run, "discard", lambda self: None)
    assert invoke(*arguments).exit_code == 0
    monkeypatch.setattr(Run, "discard", discard)
    first, second = sorted(tmp_path.glob("*.partial-*/*.npz"))
    damage(second)
    result = invoke(*arguments)
    assert result.exit_code == 0 and f"{second} is damaged" in result.stderr, result.output
    assert "its images are made again" in result.stderr and str(first) not in result.stderr
    with np.load(tmp_path / "images.npz") as arrays:
        assert np.array_equal(arrays["samples"], expected)
