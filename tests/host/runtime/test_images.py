"""Which samples are images."""

from __future__ import annotations

import json

from click.testing import CliRunner
from ditto_zynq.hls.artefact.model import load
from ditto_zynq.hls.artefact.model import save as save_artefact
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.runtime.images import pipeline_class


def test_latents_without_a_pipeline_are_no_pictures(folders, tmp_path):
    save_artefact(load(folders("dit")[1]), tmp_path / "model")
    drawn = CliRunner().invoke(main, ["generate", str(tmp_path / "model"), "-o", str(tmp_path / "x.png")])
    assert drawn.exit_code == 1 and drawn.output.startswith("Error: the model's samples are 4x16x16, no pictures, and")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "model_index.json").write_text("{}")
    assert pipeline_class(tmp_path) is None, "an index without a class names no pipeline"


def test_a_denoiser_alone_draws_no_prompts_but_has_its_costs(folders, tmp_path):
    """As ``quantize_denoiser`` makes them: without a text encoder there are still examples of contexts."""
    save_artefact(load(folders("stable_diffusion")[1]), tmp_path / "model")
    drawn = CliRunner().invoke(main, ["generate", str(tmp_path / "model"), "-o", str(tmp_path / "x.png")])
    assert drawn.exit_code == 1 and "takes prompts and has no pipeline's other parts" in drawn.output
    profiled = CliRunner().invoke(main, ["profile", str(tmp_path / "model"), "--batch", "1", "--json"])
    assert profiled.exit_code == 0 and json.loads(profiled.output)["samples"] == 1
