"""What is said of the first run: numba compiles, and that takes minutes."""

from __future__ import annotations

import os
import subprocess
import sys

from click.testing import CliRunner
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.compute import loop_cache

CODE = """
import numpy as np
from ditto_zynq.host.compute import vector_loops
from ditto_zynq.host.compute.loop_cache import is_cold
print(is_cold())
vector_loops.rescale(np.zeros((1, 1, 1), np.int16), 1, 1, 1, -1, 1, False, np.zeros((1, 1, 1), np.int8))
print(is_cold())
"""


def test_an_empty_cache_is_cold_until_something_is_compiled(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
    assert found.stdout.split() == ["True", "False"], found.stderr


def test_without_numba_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(loop_cache, "ACCELERATED", False)
    assert not loop_cache.is_cold()


def test_it_is_said_before_the_work(tiny_folder, tmp_path, monkeypatch):
    arguments = ["generate", str(tiny_folder), "-n", "1", "-o", str(tmp_path / "x.png"), "--quiet"]
    for cold in (True, False):
        monkeypatch.setattr(loop_cache, "is_cold", lambda cold=cold: cold)
        lines = CliRunner().invoke(main, arguments).stderr.splitlines()
        assert [line.startswith("compiling the emulator's loops") for line in lines] == (
            [True, False] if cold else [False]
        )
