"""The table of cases in CASES.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [line for line in (TESTS / "CASES.md").read_text().splitlines() if line.startswith("| ") and "`" in line]


def test_rows_are_found():
    assert len(ROWS) > 70


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_every_case_has_its_tests(row):
    case, was, now, tests = (cell.strip() for cell in row.strip("|").split(" | "))
    assert case and was and now
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    assert named, row
    for file, name in named:
        assert re.search(rf"^\s*def {name}\(", (TESTS / file).read_text(), re.MULTILINE), (file, name)
