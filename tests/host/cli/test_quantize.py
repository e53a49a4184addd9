"""``quantize``: what it says of what was asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner
from ditto_zynq.hls.contract.operators import Quantize
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.cli.quantize import _next_command
from ditto_zynq.host.runtime.images import is_picture

from tests.host.cli.commands import invoke, refused


@pytest.mark.parametrize("fine", [4, 100_000])
def test_more_fine_tensors_than_there_are_is_said(fine, tiny_model, tmp_path, monkeypatch):
    there = sum(isinstance(node, Quantize) and node.fine for node in tiny_model.graph.nodes)
    monkeypatch.setattr("ditto_zynq.quant.quantize.quantize", lambda *_, **__: tiny_model)
    result = CliRunner().invoke(main, ["quantize", "MODEL", "-o", str(tmp_path / "out"), "--fine", str(fine)])
    assert result.exit_code == 0 and there == 4, result.output
    said = "found --fine 100000, but 4 tensors can have codes in two parts: all of them do\n"
    assert result.stderr == (said if fine > there else "")


def test_quantize_then_generate(tiny_unet, tmp_path):
    from diffusers import DDPMScheduler

    source, output = tmp_path / "float", tmp_path / "quantized"
    tiny_unet.save_pretrained(source / "unet")
    DDPMScheduler().save_pretrained(source / "scheduler")
    result = invoke("quantize", source, "-o", output, "--steps", 4, "--groups", 2, "--trajectories", 2)
    assert result.exit_code == 0, result.output
    assert "linear operators" in result.stdout
    assert invoke("generate", output, "-n", 1, "-o", tmp_path / "one.png", "--quiet").exit_code == 0
    assert "found 5 step groups, expected 1 to 4" in refused(
        invoke("quantize", source, "-o", tmp_path / "no", "--steps", 4, "--groups", 5)
    )
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("size", ["64x", "x64", "8x8x8", "", "x"])
def test_half_a_sample_size_is_refused(tmp_path, size):
    refusal = refused(invoke("quantize", tmp_path, "-o", tmp_path / "out", "--sample-size", size))
    assert f"found sample size {size!r}, expected a number, or height and width such as 64x96" in refusal


def test_the_next_command_is_one_that_draws(tiny_model, tmp_path):
    graph = tiny_model.graph
    assert _next_command(tmp_path, tiny_model) == f"ditto-zynq generate {tmp_path} -o images.png"
    assert is_picture(graph.sample_shape) and not is_picture((4, 8, 8)) and not is_picture((3, 4, 8, 8))
    prompted = replace(tiny_model, graph=replace(graph, context=graph.input))
    assert "diffusers.wrap" in _next_command(tmp_path, prompted)
    (tmp_path / "model_index.json").write_text("{}")
    assert '--prompt "..."' in _next_command(tmp_path, prompted)
