"""The handoff describes cells that do not overlap, with the registers that the host and Vitis HLS agree on."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import pytest
from ditto_zynq.hls.build.handoff import bitstream_name, cells, handoff
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import Region, base_registers


@pytest.mark.parametrize(("board", "base"), [("zcu104", 0xA000_0000), ("pynq-z2", 0x4000_0000)])
def test_cells_are_apart_in_what_the_processor_can_address(board, base):
    tree = ElementTree.fromstring(handoff(default_config(board)))
    ranges = [
        (int(each.get("BASEVALUE"), 16), int(each.get("HIGHVALUE"), 16), each.get("INSTANCE"))
        for each in tree.iter("MEMRANGE")
    ]
    assert [name for *_, name in ranges] == [cell.name for cell in cells(default_config(board))]
    assert ranges[0][0] == base and all(last - first == 0xFFFF for first, last, _ in ranges)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))


def test_every_register_of_the_accelerator_is_a_word_of_its_own():
    registers = {name: (offset, access) for name, offset, _, access in cells(default_config("zcu104"))[0].registers}
    offsets = [offset for offset, _ in registers.values()]
    assert len(set(offsets)) == len(offsets) and not [offset for offset in offsets if offset % 4]
    assert registers["CTRL"] == (0, "read-write") and registers["error"] == (0x28, "read-only")
    low, high = (registers[f"weights_{half}"][0] for half in (1, 2))
    assert base_registers(Region.WEIGHTS) == [low] and high == low + 4, "64 bits in two words"


def test_a_bitstream_is_named_by_its_board_and_by_what_the_accelerator_says_of_itself():
    configs = [default_config("zcu104"), default_config("kv260")]
    assert bitstream_name(configs[0]) == f"ditto-zcu104-{configs[0].register_hash:08x}"
    assert bitstream_name(configs[1]).startswith("ditto-kv260-")
    assert f'NAME="{bitstream_name(configs[1])}"' in handoff(configs[1])
