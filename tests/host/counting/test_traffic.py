"""Beats are those that hold a byte of a run; merged ones are those that it does not fill."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.machine.isa import COUNTERS
from ditto_zynq.host.counting.traffic import beats, dram_beats, merged_beats


@pytest.mark.parametrize("bus", [4, 16])
def test_beats_of_every_short_run(bus):
    offsets, lengths = (index.ravel() for index in np.indices((2 * bus, 3 * bus + 1)))
    expected = []
    for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
        of_beat = [byte // bus for byte in range(offset, offset + length)]
        whole = sum(of_beat.count(beat) == bus for beat in set(of_beat))
        expected.append((len(set(of_beat)), len(set(of_beat)) - whole))
    assert beats(offsets, lengths, bus).tolist() == [touched for touched, _ in expected]
    assert merged_beats(offsets, lengths, bus).tolist() == [partly for _, partly in expected]


def test_dram_moves_the_beats_of_all_ports():
    records = np.zeros(2, COUNTERS)
    for index, name in enumerate(COUNTERS.names):
        records[name] = [1 << index % 32, 0]
    moved = [name for name in COUNTERS.names if name.endswith("_beats")]
    assert len(moved) == 9
    assert dram_beats(records).tolist() == [sum(1 << COUNTERS.names.index(name) for name in moved), 0]
