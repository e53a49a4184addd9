"""The manual of the instruction set is what is generated, and leaves nothing out."""

from __future__ import annotations

import re

import pytest
from ditto_zynq.hls.build.manual import COMMAND, MANUAL, OPERATORS, manual
from ditto_zynq.hls.machine import isa
from ditto_zynq.hls.machine.forms import FORMS
from ditto_zynq.hls.machine.isa import Flag, Opcode, Region
from ditto_zynq.hls.machine.scalar_rules import RANGES

TEXT = MANUAL.read_text()
SECTIONS = dict(re.findall(r"^#{2,3} ([\w' ]+?)(?: \(\d+\))?\n(.*?)(?=^#{2,3} |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def rows(section: str) -> set[str]:
    """What the rows of the section's tables have between backquotes."""
    return {
        name for line in SECTIONS[section].splitlines() if line.startswith("|") for name in re.findall(r"`(\w+)`", line)
    }


def test_it_is_what_is_generated():
    assert manual() == TEXT, f"run {COMMAND}"


def test_every_record_is_in_it():
    for section, fields in (
        ("The descriptor", isa.DESCRIPTOR_FIELDS),
        ("Scalars", isa.SCALAR_FIELDS),
        ("The counter record", isa.COUNTER_FIELDS),
        ("Defo's table", isa.DEFO_FIELDS),
    ):
        assert {field.name for field in fields} <= rows(section), section
    assert rows("Registers") == {"control", *isa.registers()}
    assert all(f"| {region.value} | {region.name} |" in SECTIONS["Regions"] for region in Region)
    assert all(f"| {flag.value} | {flag.name} |" in SECTIONS["Flags"] for flag in Flag)


@pytest.mark.parametrize("opcode", Opcode)
def test_every_operation_is_in_it(opcode):
    section = SECTIONS[opcode.name]
    assert f"### {opcode.name} ({opcode.value})" in TEXT and opcode.name in section
    of_all = rows("The descriptor")
    assert set(FORMS[opcode].stored(opcode)) | set(RANGES[opcode]) <= of_all | rows(opcode.name)
    assert all(f"[{operator.__name__}](contract/operators/" in section for operator in OPERATORS[opcode])


def test_tables_are_whole():
    """No text of a cell ends it early."""
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
