"""README's code blocks: every command can be called as it stands there, and what a newcomer would paste runs, in order."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from ditto_zynq.host.cli import main

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [
    words for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if (words := shlex.split(line, True))
]
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
QUICK = {"quantize": ("--trajectories", "1", "--norm", "0", "--fine", "0", "--groups", "1"), "generate": ("-n", "1")}


def test_blocks_are_found():
    assert len(COMMANDS) > 12 and len(PYTHON) >= 4


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_exist(words):
    """Those of this project are parsed, with all their options; nothing is run."""
    if words[0] == "ditto-zynq":
        main.commands[words[1]].make_context(words[1], words[2:])
    elif words[0].startswith("./"):
        assert os.access(ROOT / words[0], os.X_OK)
    else:
        assert words[0] in ("source", "pip", "dask")


@pytest.mark.slow
def test_what_can_be_pasted_runs(tmp_path, monkeypatch):
    """Commands whose inputs the repository has (with fewer images and trajectories), then every Python block."""
    (tmp_path / "quant").symlink_to(ROOT / "quant")
    monkeypatch.chdir(tmp_path)
    ready = [words[1:] for words in COMMANDS if words[0] == "ditto-zynq" and any("runs/text" in word for word in words)]
    assert len(ready) == 2
    for name, *arguments in ready:
        result = CliRunner().invoke(main, [name, *arguments, *QUICK[name]])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "hearts.png").exists()
    for text in PYTHON:
        exec(compile(text, "README.md", "exec"), {"__name__": "README"})
