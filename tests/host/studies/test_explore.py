"""Design-space exploration: what does not fit is left out with the reason, and what is marked is not dominated."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.resources import estimate
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.studies.compare import compare
from ditto_zynq.host.studies.explore import candidates, summary, table

CONFIG = default_config("zcu104")


def test_candidates():
    fitting, refused = candidates(CONFIG, {"cores": [2, 8, 100], "oc_tile": [16, 32]})
    assert [(config.cores, config.oc_tile) for config in fitting] == [(2, 16), (2, 32), (8, 16), (8, 32)]
    assert sorted(refused) == ["cores 100, oc_tile 16", "cores 100, oc_tile 32"]
    assert all("does not fit zcu104: it needs" in why for why in refused.values())
    with pytest.raises(ValueError, match=r"found no configuration that fits zcu104: .*it needs"):
        candidates(CONFIG, {"cores": [100]})
    with pytest.raises(ValueError, match="found field 'colour' to explore, expected some of cores, lanes"):
        candidates(CONFIG, {"colour": [1]})


def test_the_summary_marks_what_nothing_beats(tiny_model):
    configs, _ = candidates(CONFIG, {"cores": [2, 4], "dram_gb_per_s": [1.0, 19.2]})
    rows = summary([compare(tiny_model, config, 2) for config in configs])
    assert [row["ditto"] for row in rows] == sorted(row["ditto"] for row in rows)
    slow = [row for row in rows if row["configuration"]["dram_gb_per_s"] == 1.0]
    assert not any(row["best"] for row in slow), "less bandwidth costs no resources here and is never better"
    assert rows[0]["best"]
    for row in rows:
        config = next(c for c in configs if c.to_json() == row["configuration"])
        assert row["resources"]["dsp"] == estimate(config).dsp / 1728
    assert table(rows, {"cores 100": "too many"}).endswith("left out: cores 100: too many\n")


def test_the_command(tiny_folder, tmp_path, model_reads):
    arguments = [
        "explore",
        str(tiny_folder),
        "--batch",
        "2",
        "--vary",
        "cores=2,100",
        "-o",
        str(tmp_path / "found.json"),
    ]
    alone = CliRunner().invoke(main, arguments)
    assert alone.exit_code == 0 and "left out: cores 100" in alone.stdout, alone.output
    assert len(model_reads) == 1
    written = (tmp_path / "found.json").read_text()
    assert json.loads(written)["rows"][0]["configuration"]["cores"] == 2
    shared = CliRunner().invoke(main, [*arguments, "--workers", "2"])
    assert shared.stdout == alone.stdout and (tmp_path / "found.json").read_text() == written
    for vary, message in (("cores=many", "found 'cores=many' to vary"), ("colour=1", "found field 'colour'")):
        result = CliRunner().invoke(main, ["explore", "--vary", vary])
        assert result.exit_code == 1 and message in result.stderr


def test_a_field_is_varied_once(tiny_folder):
    """The last one would count alone; a value that is given twice is one configuration."""
    both = ["explore", str(tiny_folder), "--vary", "cores=2", "--vary", "cores=4"]
    result = CliRunner().invoke(main, both)
    assert result.exit_code == 1 and "found --vary cores more than once, expected all of its values" in result.stderr
    twice = CliRunner().invoke(main, ["explore", str(tiny_folder), "--batch", "1", "--vary", "cores=2,2"])
    assert twice.exit_code == 0 and len(twice.stdout.splitlines()) == 3, twice.output
