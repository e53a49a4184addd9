"""The board catalogue, one row each: what a board offers the accelerator, and the accelerator that is shipped for it.

Logic resources are from AMD's product tables (DS891 for Zynq UltraScale+, DS190 for Zynq-7000, DS987 for the K26 module),
DRAM bandwidth is the peak of the board's memory on the processing system (bus width times transfer rate). All are
vendors' figures, none is measured here.

A shipped configuration is the one with most multipliers, and the widest ports, that fits the board by :mod:`.resources`, with 64
sums per core (rows of 64 output pixels; 32 where DSP slices are few). It stands in the board's row as the fields of
:class:`.shape.Shape` that differ from that class's own values, which are the default board's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_BOARD = "zcu104"


@dataclass(frozen=True)
class Board:
    """A board, and the accelerator shipped for it. ``bram36`` in blocks of 36 Kib, ``uram`` in blocks of 288 Kib, ``cma_mib``
    contiguous memory for buffers (PYNQ's default), ``hp_ports`` high-performance AXI ports to DRAM, ``dram_gb_per_s`` peak
    bandwidth in 1e9 bytes per second; ``shipped``: fields of the configuration that is shipped for it."""

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
    shipped: Mapping[str, int | str] = field(default_factory=dict, hash=False)

    @property
    def zynq_ultrascale(self) -> bool:
        """Whether it is a Zynq UltraScale+, else a Zynq-7000."""
        return not self.part.startswith("xc7z")

    @property
    def architecture(self) -> str:
        """The processors' architecture, as Linux and PYNQ call it."""
        return "aarch64" if self.zynq_ultrascale else "armv7l"

    @property
    def multiplier_bits(self) -> int:
        """Bits of the wider operand of a DSP slice's multiplier, the other has 18 (DSP48E2, UG579; DSP48E1, UG479)."""
        return 27 if self.zynq_ultrascale else 25


BOARDS = {
    board.name: board
    for board in (
        Board(
            name=DEFAULT_BOARD,
            part="xczu7ev-ffvc1156-2-e",
            board_part="*:zcu104:*",
            lut=230_400,
            dsp=1_728,
            bram36=312,
            uram=96,
            dram_mib=2_048,
            dram_gb_per_s=19.2,
            cma_mib=512,
            hp_ports=4,
        ),
        Board(
            name="kv260",
            part="xck26-sfvc784-2LV-c",
            board_part="*:kv260_som:*",
            lut=117_120,
            dsp=1_248,
            bram36=144,
            uram=64,
            dram_mib=4_096,
            dram_gb_per_s=19.2,
            cma_mib=512,
            hp_ports=4,
            # little block RAM and few LUTs for its DSP slices, 44 % of which are used
            shipped={"cores": 2, "weight_memory": "uram"},
        ),
        Board(
            name="zcu102",
            part="xczu9eg-ffvb1156-2-e",
            board_part="*:zcu102:*",
            lut=274_080,
            dsp=2_520,
            bram36=912,
            uram=0,
            dram_mib=4_096,
            dram_gb_per_s=19.2,
            cma_mib=512,
            hp_ports=4,
            note="board of Diff-Acc and SDA",
            shipped={"cores": 7, "lanes": 16, "weight_memory": "bram"},
        ),
        Board(
            name="ultra96v2",
            part="xczu3eg-sbva484-1-i",
            board_part="*:ultra96v2:*",
            lut=70_560,
            dsp=360,
            bram36=216,
            uram=0,
            dram_mib=2_048,
            dram_gb_per_s=8.5,
            cma_mib=512,
            hp_ports=4,
            shipped={"cores": 1, "bus_bits": 64, "weight_memory": "bram"},
        ),
        Board(
            name="aup-zu3",
            part="xczu3eg-sfvc784-2-e",
            board_part="*:aup-zu3*:*",
            lut=70_560,
            dsp=360,
            bram36=216,
            uram=0,
            dram_mib=4_096,
            dram_gb_per_s=8.5,
            cma_mib=512,
            hp_ports=4,
            shipped={"cores": 1, "bus_bits": 64, "weight_memory": "bram"},
        ),
        Board(
            name="pynq-z2",
            part="xc7z020clg400-1",
            board_part="*:pynq-z2:*",
            lut=53_200,
            dsp=220,
            bram36=140,
            uram=0,
            dram_mib=512,
            dram_gb_per_s=2.1,
            cma_mib=128,
            hp_ports=4,
            note="resource profile: needs a PYNQ 3 image",
            shipped={
                "cores": 1,
                "lanes": 4,
                "clock_mhz": 100,
                "bus_bits": 32,
                "accumulator_depth": 32,
                "row_bytes": 2048,
                "weight_memory": "bram",
            },
        ),
    )
}


def find_board(name: str) -> Board:
    """The board of this name. ValueError, listing the known ones, for an unknown one."""
    if name not in BOARDS:
        raise ValueError(f"found board {name!r}, expected one of {', '.join(BOARDS)}")
    return BOARDS[name]
