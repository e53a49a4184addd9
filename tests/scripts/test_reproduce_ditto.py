"""scripts/reproduce-ditto: bad input is one line, before anything long runs; its page names the source of each number."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from ditto_zynq.host.studies import published

from scripts import reproduce_ditto
from scripts.reproduce_ditto import Row, main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing is not a folder; expected a model made by"),
        (["--dense", "missing"], "missing is not a folder; expected a model made by"),
        (["-o", "file"], "is a file, expected a folder"),
        (["-o", "file/x"], "is a file, expected a folder"),
        (["--boards", "nope"], "found board 'nope', expected one of zcu104"),
        (["--boards", "zcu104,"], "found board '', expected one of zcu104"),
        (["--batch", "0"], "0 is not in the range"),
        (["--batch", "65536"], "65536 is not in the range"),
        (["--bogus"], "No such option"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, arguments, message):
    def begun(*_: object) -> None:
        raise AssertionError("long work began")

    monkeypatch.setattr(reproduce_ditto, "measure_all", begun)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, arguments)
    assert isinstance(result.exception, SystemExit) and result.exit_code in (1, 2), repr(result.exception)
    assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_rows_name_their_sources():
    with_one = reproduce_ditto._row_line(Row("zeros", published.ZERO, "50 %", "measured"))
    without = reproduce_ditto._row_line(Row("the best board", None, "2", "emulated"))
    assert with_one == f"| zeros | {published.ZERO.text} | 50 % | measured |  | {published.ZERO.where} |"
    assert without == "| the best board |  | 2 | emulated |  |  |"
