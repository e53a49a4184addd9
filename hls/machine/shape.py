"""How large each part of an accelerator is, whether or not a board holds it, and the numbers that follow from that."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from typing import TypeVar

from ..common.schema import show
from ..contract.arithmetic import ceil_divide
from ..contract.formats import VALUE_BYTES, WEIGHT_BITS
from .boards import DEFAULT_BOARD, find_board
from .isa import PORTS
from .primitives import CHAINED_LANES, ultra_ram

S = TypeVar("S", bound="Shape")
LARGEST_NUMBER = 1 << 24  # of any field: far beyond what a board holds
FASTEST_MHZ = 1_000  # no Zynq's fabric is as fast


@dataclass(frozen=True)
class Shape:
    """The parts of one accelerator. Raises ValueError for numbers that no accelerator has.

    ``cores`` work on different output pixels or tokens; each multiplies one digit per lane and cycle with ``oc_tile``
    weights. ``sample_groups`` samples advance in lockstep and share each weight fetch, ``channel_groups`` parts of a
    convolution overlap with the GroupNorm after it (Diff-Acc's group-wise parallelism). With 2 ``batch_parts`` the halves of a
    batch take turns on the linear and the vector unit where that pays (``host/program/turns.py``), instead of channel groups.

    Buffers: ``digit_depth`` entries in each lane's list, ``positions`` encoded input pixels and ``accumulator_depth`` sums of
    ``oc_tile`` per core; ``weight_depth`` words of ``oc_tile`` weights per lane; ``row_bytes`` of a pixel's values or a row of
    softmax; ``staging_depth`` channels and ``gather_bytes`` bytes of an attention product's operands that are turned round.
    ``weight_memory`` ("bram", "uram", or "both": block RAM for the copies that UltraRAM does not hold) holds the weights.
    ``dram_gb_per_s`` is what there is of the board's DRAM bandwidth, in 1e9 bytes per second (default: its peak).
    """

    board: str = DEFAULT_BOARD
    cores: int = 8
    lanes: int = 8
    oc_tile: int = 32
    clock_mhz: int = 250
    bus_bits: int = 128
    sample_groups: int = 16
    channel_groups: int = 4
    batch_parts: int = 2
    digit_depth: int = 1024
    positions: int = 256
    accumulator_depth: int = 64
    weight_depth: int = 1024
    row_bytes: int = 4096
    staging_depth: int = 256
    gather_bytes: int = 1024
    weight_memory: str = "both"
    dram_gb_per_s: float | None = None

    def __post_init__(self) -> None:
        self._check_types()
        board = find_board(self.board)
        if self.bus_bits not in (32, 64, 128):
            raise ValueError(f"found bus_bits = {self.bus_bits}, expected 32, 64 or 128 (a Zynq HP port)")
        if self.batch_parts > 2:
            raise ValueError(f"found batch_parts = {self.batch_parts}, expected 1 or 2")
        if self.oc_tile % 2 or self.oc_tile % self.bus_bytes:
            raise ValueError(
                f"found oc_tile = {self.oc_tile}, expected an even multiple of the bus's {self.bus_bytes} bytes"
            )
        if self.lanes > self.bus_bytes:
            raise ValueError(f"found lanes = {self.lanes}, expected at most the bus's {self.bus_bytes} bytes")
        if self.row_bytes % self.bus_bytes:
            raise ValueError(
                f"found row_bytes = {self.row_bytes}, expected a multiple of the bus's {self.bus_bytes} bytes"
            )
        if self.lanes > self.digit_depth:
            raise ValueError(f"found digit_depth = {self.digit_depth}, expected at least the {self.lanes} lanes")
        if board.hp_ports < PORTS:
            raise ValueError(
                f"the accelerator has {PORTS} memory ports, but {self.board} has {board.hp_ports} HP ports"
            )
        if self.weight_memory not in ("bram", "uram", "both"):
            raise ValueError(f"found weight_memory = {self.weight_memory!r}, expected bram, uram or both")
        peak = board.dram_gb_per_s
        if self.dram_gb_per_s is not None and not 0 < self.dram_gb_per_s <= peak:
            raise ValueError(
                f"found dram_gb_per_s = {self.dram_gb_per_s}, expected more than 0 and at most {self.board}'s {peak}"
            )

    def _check_types(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or not 1 <= value <= LARGEST_NUMBER):
                raise ValueError(
                    f"found {field.name} = {show(value)}, expected a whole number from 1 to {LARGEST_NUMBER}"
                )
            if field.type == "str" and not isinstance(value, str):
                raise ValueError(f"found {field.name} = {show(value)}, expected a word")
        if self.dram_gb_per_s is not None and type(self.dram_gb_per_s) not in (int, float):
            raise ValueError(f"found dram_gb_per_s = {show(self.dram_gb_per_s)}, expected a number")
        if self.clock_mhz > FASTEST_MHZ:
            raise ValueError(f"found clock_mhz = {self.clock_mhz}, expected at most {FASTEST_MHZ}")

    @property
    def bus_bytes(self) -> int:
        """Bytes of one beat of a memory port."""
        return self.bus_bits // 8

    @property
    def vector_width(self) -> int:
        """Elements that the vector unit works on in a cycle: a beat of values."""
        return self.bus_bytes // VALUE_BYTES

    @property
    def fill_cycles(self) -> int:
        """Cycles from the end of a block's in a core to its last sum: the stages of ``rtl/compute_core.sv``."""
        return 14 + CHAINED_LANES[find_board(self.board).multiplier_bits]

    @property
    def word_bits(self) -> int:
        """Bits of the number of a word of channels in a chunk."""
        return (min(self.digit_depth, self.weight_depth) - 1).bit_length()

    @property
    def weight_copies(self) -> int:
        """Copies of the weights on chip: one for every two cores."""
        return ceil_divide(self.cores, 2)

    @property
    def uram_copies(self) -> int:
        """How many copies of the weights are in UltraRAM."""
        if self.weight_memory == "both":
            bank = ultra_ram(self.weight_depth, WEIGHT_BITS * self.oc_tile).uram
            return min(self.weight_copies, find_board(self.board).uram // (bank * self.lanes))
        return self.weight_copies if self.weight_memory == "uram" else 0

    @property
    def multipliers(self) -> int:
        """The 5x8 digit multipliers of the compute unit."""
        return self.cores * self.lanes * self.oc_tile

    @property
    def multiplier_dsps(self) -> int:
        """DSP slices of the compute unit: two weights of a lane share a digit and a slice."""
        return ceil_divide(self.multipliers, 2)

    @property
    def dram_bytes_per_kilocycle(self) -> int:
        """DRAM bytes per 1000 accelerator cycles, for reads and writes together."""
        bandwidth = find_board(self.board).dram_gb_per_s if self.dram_gb_per_s is None else self.dram_gb_per_s
        return max(int(bandwidth * 1e6 / self.clock_mhz), 1)

    def modelled(self: S, **changes: int) -> S:
        """A variant for cost models alone, which is not checked and cannot be built."""
        variant = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(variant, name, value)
        return variant
