"""Records are whole beats of every bus, every flag is a bit of its own, and every register a word of its own."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.machine import isa
from ditto_zynq.hls.machine.isa import Flag, Opcode, Region, base_registers, registers


@pytest.mark.parametrize("record", [isa.DESCRIPTOR, isa.SCALARS, isa.DEFO, isa.COUNTERS], ids=["d", "s", "t", "c"])
def test_records_are_whole_beats_and_their_fields_are_aligned(record):
    assert record.itemsize % 16 == 0, "the widest bus has 16 bytes"
    fields = [(record.fields[name][1], record.fields[name][0].itemsize) for name in record.names]
    assert not [offset for offset, size in fields if offset % size]
    assert sum(size for _, size in fields) == record.itemsize, "no gaps"


def test_flags_and_opcodes_fit_their_fields_and_have_a_meaning():
    assert set(isa.FLAG_MEANINGS) == set(Flag) and set(isa.REGION_MEANINGS) == set(Region)
    assert all(int(flag).bit_count() == 1 for flag in Flag) and len(set(map(int, Flag))) == len(Flag)
    assert sum(Flag) <= np.iinfo(isa.DESCRIPTOR["flags"]).max and 0 not in list(Opcode)


def test_registers_are_words_of_their_own_behind_the_control_registers_of_vitis():
    words = [offset for name, offset in registers().items() if name not in {each.name for each in isa.POINTERS}]
    for region in Region:
        words += [word for low in base_registers(region) for word in (low, low + 4)]
    assert len(words) == 4 + 2 * len(isa.POINTERS) == len(set(words))
    assert min(words) >= 0x10 and not [word for word in words if word % 4]


def test_beats_are_read_or_written():
    named = {name for name in isa.COUNTER_NAMES if name.endswith("_beats")}
    assert {*isa.READ_BEATS, *isa.WRITTEN_BEATS} == named and len(named) == len(isa.READ_BEATS) + len(isa.WRITTEN_BEATS)
