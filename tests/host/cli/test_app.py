"""What is no model, and what is not installed: one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.host.cli.commands import invoke, refused


@pytest.mark.parametrize("command", ["generate", "profile"])
def test_what_is_no_model_is_refused(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert "is not a folder; expected a model made by" in refused(invoke(command, tmp_path / "nowhere"))
    (tmp_path / "unet").mkdir()
    assert "looks like a float diffusers model" in refused(invoke(command, tmp_path))
    assert "has neither unet/config.json nor transformer/config.json" in refused(
        invoke("quantize", tmp_path, "-o", tmp_path / "out")
    )


def test_a_missing_package_says_what_to_install(tiny_folder):
    code = "import sys; sys.modules['brevitas'] = None; from ditto_zynq.host.cli.app import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "quantize", "somewhere", "-o", "out"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.strip().endswith("brevitas is not installed; run: pip install 'ditto-zynq[quant]'")
