"""Primitives have the shapes of the data sheets."""

from __future__ import annotations

from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.primitives import block_ram, lut_ram, multiplier_dsps, ultra_ram


def test_primitives():
    zynq7, ultrascale = BOARDS["pynq-z2"], BOARDS["zcu104"]
    assert [
        block_ram(*shape).bram18 for shape in ((512, 36), (513, 36), (1024, 18), (1024, 19), (4096, 4), (1, 1))
    ] == [
        1,
        2,
        1,
        2,
        1,
        1,
    ]
    assert block_ram(512, 36, two_reads=True).bram18 == 2, "two read ports: 18 bits at most"
    assert (ultra_ram(4096, 72).uram, ultra_ram(4097, 72).uram, ultra_ram(1, 256).uram) == (1, 2, 4)
    assert (lut_ram(ultrascale, 64, 7).lut, lut_ram(ultrascale, 32, 14).lut) == (8, 8)
    assert (lut_ram(zynq7, 64, 3).lut, lut_ram(zynq7, 32, 6).lut) == (4, 4)
    widths = ((27, 18), (18, 27), (28, 18), (33, 32), (16, 32), (41, 23))
    assert [multiplier_dsps(ultrascale, *pair) for pair in widths] == [1, 1, 2, 4, 2, 3]
    assert multiplier_dsps(zynq7, 27, 18) == 2, "a DSP48E1 multiplies 25 x 18 bits"
