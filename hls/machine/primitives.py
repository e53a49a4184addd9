"""What FPGA primitives hold (UG573, UG473: block RAM and UltraRAM; UG574, UG474: LUTs as memory; UG579, UG479: DSP slices)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..contract.arithmetic import ceil_divide
from ..contract.formats import WEIGHT_BITS
from .boards import Board

CHAINED_LANES = {27: 4, 25: 1}  # that are summed up inside their slices: kernels/arithmetic.hpp


def weight_gap(multiplier_bits: int) -> int:
    """Bits between the two weights that a slice multiplies at once: what its wider port has besides one and its carry."""
    return multiplier_bits - WEIGHT_BITS - 1


@dataclass(frozen=True)
class Resources:
    """Primitives of an FPGA; ``bram18`` counts halves of 36 Kb blocks."""

    dsp: int = 0
    lut: int = 0
    bram18: int = 0
    uram: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __mul__(self, count: int) -> Resources:
        return Resources(*(getattr(self, field.name) * count for field in fields(self)))


def block_ram(depth: int, width: int, two_reads: bool = False) -> Resources:
    """The 18 Kb blocks of ``depth`` words of ``width`` bits: 512 x 36 with one write and one read port, 1024 x 18 with two of
    either."""
    shapes = [(1024, 18), (2048, 9), (4096, 4)] + ([] if two_reads else [(512, 36)])
    return Resources(bram18=min(ceil_divide(depth, rows) * ceil_divide(width, bits) for rows, bits in shapes))


def ultra_ram(depth: int, width: int) -> Resources:
    """The UltraRAMs of ``depth`` words of ``width`` bits: 4096 x 72 each, with two ports."""
    return Resources(uram=ceil_divide(depth, 4096) * ceil_divide(width, 72))


def lut_ram(board: Board, depth: int, width: int) -> Resources:
    """The LUTs of ``depth`` words of ``width`` bits, with one write and one read port. UltraScale: 8 LUTs are 64 x 7 or 32 x 14;
    7 series: 4 LUTs are 64 x 3 or 32 x 6."""
    luts, deep, shallow = (8, 7, 14) if board.zynq_ultrascale else (4, 3, 6)
    if depth <= 32:
        return Resources(lut=luts * ceil_divide(width, shallow))
    banks = ceil_divide(depth, 64)
    return Resources(lut=banks * luts * ceil_divide(width, deep) + multiplexer(width, banks))


def multiplexer(bits: int, ways: int) -> int:
    """LUTs that choose one of ``ways`` words of so many bits."""
    return ceil_divide(bits * (ways - 1), 3)


def shifter(bits: int) -> int:
    """LUTs that shift a word of so many bits by a variable number of places."""
    return 3 * bits


def multiplier_dsps(board: Board, a: int, b: int) -> int:
    """DSP slices of a signed a x b multiplier: operands are cut into pieces of 17 and of 26 (DSP48E1: 24) bits plus a sign."""

    def pieces(bits: int, port: int) -> int:
        return 1 if bits <= port else ceil_divide(bits - 1, port - 1)

    wide = board.multiplier_bits
    return min(pieces(a, wide) * pieces(b, 18), pieces(b, wide) * pieces(a, 18))
