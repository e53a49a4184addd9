"""The board catalogue: what each supported board offers the accelerator.

Logic resources are from AMD's product tables (DS891 for Zynq UltraScale+, DS190 for Zynq-7000, DS987 for the K26 module),
DRAM bandwidth is the peak of the board's memory on the processing system (bus width times transfer rate). All are
vendors' figures, none is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Board:
    """``bram36`` in blocks of 36 Kib, ``uram`` in blocks of 288 Kib, ``cma_mib`` contiguous memory for buffers (PYNQ's
    default), ``hp_ports`` high-performance AXI ports to DRAM, ``dram_gb_per_s`` peak bandwidth in 1e9 bytes per second."""

    name: str
    part: str
    board_part: str  # pattern of Vivado's board parts
    lut: int
    dsp: int
    bram36: int
    uram: int
    dram_mib: int
    dram_gb_per_s: float
    cma_mib: int
    hp_ports: int
    note: str = ""

    @property
    def zynq_ultrascale(self) -> bool:
        return not self.part.startswith("xc7z")

    @property
    def multiplier_bits(self) -> int:
        """Bits of the wider operand of a DSP slice's multiplier, the other has 18 (DSP48E2, UG579; DSP48E1, UG479)."""
        return 27 if self.zynq_ultrascale else 25


BOARDS = {
    board.name: board
    for board in (
        Board("zcu104", "xczu7ev-ffvc1156-2-e", "*:zcu104:*", 230_400, 1_728, 312, 96, 2_048, 19.2, 512, 4),
        Board("kv260", "xck26-sfvc784-2LV-c", "*:kv260_som:*", 117_120, 1_248, 144, 64, 4_096, 19.2, 512, 4),
        Board(
            "zcu102",
            "xczu9eg-ffvb1156-2-e",
            "*:zcu102:*",
            274_080,
            2_520,
            912,
            0,
            4_096,
            19.2,
            512,
            4,
            "board of Diff-Acc and SDA",
        ),
        Board("ultra96v2", "xczu3eg-sbva484-1-i", "*:ultra96v2:*", 70_560, 360, 216, 0, 2_048, 8.5, 512, 4),
        Board("aup-zu3", "xczu3eg-sfvc784-2-e", "*:aup-zu3*:*", 70_560, 360, 216, 0, 4_096, 8.5, 512, 4),
        Board(
            "pynq-z2",
            "xc7z020clg400-1",
            "*:pynq-z2:*",
            53_200,
            220,
            140,
            0,
            512,
            2.1,
            128,
            4,
            "resource profile: needs a PYNQ 3 image",
        ),
    )
}


def find_board(name: str) -> Board:
    """ValueError, listing the known ones, for an unknown board."""
    if name not in BOARDS:
        raise ValueError(f"found board {name!r}, expected one of {', '.join(BOARDS)}")
    return BOARDS[name]
