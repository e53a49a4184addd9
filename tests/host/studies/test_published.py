"""The paper's numbers stand in one file, each with its source."""

from __future__ import annotations

from pathlib import Path

from ditto_zynq.host.studies import published

ROOT = Path(__file__).parents[3]
NUMBERS = {name: value for name, value in vars(published).items() if isinstance(value, published.Published)}


def test_each_has_a_source():
    assert len(NUMBERS) > 12
    for name, number in NUMBERS.items():
        assert number.text and any(word in number.where for word in ("figure", "section", "abstract")), name


def test_no_other_file_has_them():
    sources = [path for folder in ("host", "scripts") for path in (ROOT / folder).glob("*.py")]
    for path in sources:
        if path.name == "published.py":
            continue
        text = path.read_text()
        for number in NUMBERS.values():
            quoted = [quote + shown + quote for quote in "'\"" for shown in (number.text, number.text.replace(" ", ""))]
            assert not any(each in text for each in quoted), (path.name, number.text)
