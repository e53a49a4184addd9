"""What the commands share."""

from __future__ import annotations

import click
import pytest
from ditto_zynq.hls.machine.config import HardwareConfig, default_config
from ditto_zynq.host.cli.shared import OUTPUT_FILE, InLine, WrongCall, check_plots, config_of, fleet_of, parse_labels


def test_labels_are_numbers_and_ranges():
    assert parse_labels(None) is None and parse_labels("0-3,7,5-5") == [0, 1, 2, 3, 7, 5]
    for text in ("", "x", "3-1", "1,,2", "0-100000"):
        with pytest.raises(ValueError, match=r"expected numbers and ranges such as 0-3,7 \(of at most 100,000\)"):
            parse_labels(text)


def test_a_file_goes_before_the_board(tmp_path):
    path = tmp_path / "hardware.json"
    path.write_text('{"cores": 2}')
    assert config_of("kv260", None) == default_config("kv260") and config_of("kv260", path) == HardwareConfig(cores=2)


def test_errors_are_one_line_and_wrong_calls_have_clicks_exit_code():
    assert InLine("two\n  lines").format_message() == "two lines"
    assert (InLine("x").exit_code, WrongCall("x").exit_code) == (1, 2)


def test_an_output_is_looked_at_before_anything_runs(tmp_path):
    with pytest.raises((click.ClickException, ValueError), match="expected a file in a folder that exists"):
        OUTPUT_FILE.convert(str(tmp_path / "missing" / "x.json"), None, None)
    check_plots(tmp_path / "figures", tmp_path / "x.json")
    assert (tmp_path / "figures").is_dir()
    with pytest.raises(ValueError, match="for the output and the figures"):
        check_plots(tmp_path / "x.json", tmp_path / "x.json")
    with pytest.raises(ValueError, match="found --workers and --cluster, expected one of them"):
        fleet_of(1, "tcp://x:1")
