"""Lint, format and types are part of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: str, cwd: Path = ROOT) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_lint():
    run("ruff", "check", ".")


def test_format():
    run("ruff", "format", "--check", ".")


def test_types(tmp_path):
    package = tmp_path / "ditto_zynq"  # as it is installed: the folders are parts of one namespace
    package.mkdir()
    for folder in ("hls", "host", "quant"):
        (package / folder).symlink_to(ROOT / folder)
    options = ("--config-file", str(ROOT / "pyproject.toml"), "--namespace-packages", "--explicit-package-bases")
    run("mypy", *options, "-p", "ditto_zynq", cwd=tmp_path)
