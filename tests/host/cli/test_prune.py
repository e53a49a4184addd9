"""``prune``: what it says, and what it refuses in one line."""

from __future__ import annotations

import pytest
from diffusers import DDIMScheduler, DDPMPipeline

from tests.host.cli.commands import invoke, refused
from tests.quant.prune.models import unet


def test_prune_then_what_it_says(tmp_path):
    DDPMPipeline(unet(), DDIMScheduler(clip_sample=False)).save_pretrained(tmp_path / "float")
    small = ("--steps", 1, "--runs", 1, "--run-steps", 2, "--tile", 4, "--lanes", 4)
    result = invoke("prune", tmp_path / "float", "-o", tmp_path / "pruned", "--macs", 0.5, *small)
    assert result.exit_code == 0, result.output
    assert (
        "multiplications (" in result.stdout
        and f"next: ditto-zynq quantize {tmp_path / 'pruned'} -o MODEL" in result.stdout
    )
    again = refused(invoke("prune", tmp_path / "float", "-o", tmp_path / "pruned", "--macs", 0.5, *small))
    assert "has a pruned model; say --overwrite" in again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--macs", 1.5), "found macs 1.5, expected the share of multiplications to keep, between 0 and 1"),
        (("--macs", 0.5, "--widths", "wide"), "found widths 'wide', expected one of layer, block"),
        (("--macs", 0.5, "--criterion", "best"), "found criterion 'best', expected one of reprune, l1, random, taylor"),
        (("--macs", 0.5, "--scheduler", "best"), "found scheduler 'best'"),
        (("--macs", 0.5), "is no folder here"),
    ],
)
def test_bad_input(options, message, tmp_path):
    assert message in refused(invoke("prune", tmp_path / "none", "-o", tmp_path / "out", *options))
    assert not list(tmp_path.iterdir())
