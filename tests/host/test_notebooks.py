"""The notebooks run top to bottom without a board, and PYNQ finds them and the folder of bitstreams."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "host" / "notebooks").glob("*.ipynb"))


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["1_generate", "2_profile_and_compare"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "notebooks are kept without outputs"
    NotebookClient(
        notebook, timeout=600, startup_timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert pictures


def test_pynq_delivers_them(tmp_path):
    """``pynq get-notebooks``, pynq's own command, off board."""
    command = [Path(sys.executable).parent / "pynq", "get-notebooks", "ditto-zynq", "-p", tmp_path, "--ignore-overlays"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*.ipynb")) == [path.name for path in NOTEBOOKS]


def test_pynq_finds_bitstreams():
    (found,) = entry_points(group="pynq.overlays", name="ditto-zynq")
    from ditto_zynq.hls.build.bitstreams import SHIPPED

    assert Path(found.load().__file__).parent == SHIPPED
