"""``quantize``: what it says of what was asked for."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from ditto_zynq.hls.contract.operators import Quantize
from ditto_zynq.host.cli.app import main


@pytest.mark.parametrize("fine", [4, 100_000])
def test_more_fine_tensors_than_there_are_is_said(fine, tiny_model, tmp_path, monkeypatch):
    there = sum(isinstance(node, Quantize) and node.fine for node in tiny_model.graph.nodes)
    monkeypatch.setattr("ditto_zynq.quant.quantize.quantize", lambda *_, **__: tiny_model)
    result = CliRunner().invoke(main, ["quantize", "MODEL", "-o", str(tmp_path / "out"), "--fine", str(fine)])
    assert result.exit_code == 0 and there == 4, result.output
    said = "found --fine 100000, but 4 tensors can have codes in two parts: all of them do\n"
    assert result.stderr == (said if fine > there else "")
