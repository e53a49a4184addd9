"""Energy of a run, estimated from what was counted: products, sums, on-chip weight reads and DRAM bytes.

The constants are Horowitz's for 45 nm ("Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9),
the node of Ditto's own evaluation; an FPGA takes several times as much for arithmetic. Only ratios between designs mean
something, and clocks, control and leakage are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

MULTIPLY_8_PJ = 0.2  # 8 x 8 bits
ADD_32_PJ = 0.1
SRAM_BYTE_PJ = 10 / 8  # 64 bits from 8 KB
DRAM_BYTE_PJ = 1300 / 8  # 64 bits, the lower end of 1.3 to 2.6 nJ


@dataclass(frozen=True)
class Energy:
    """Microjoules (estimated)."""

    products: float
    weights: float
    dram: float

    @property
    def total(self) -> float:
        return self.products + self.weights + self.dram


def energy(products: float, product_bits: int, readers: int, dram_bytes: float) -> Energy:
    """Of ``products`` of ``product_bits`` (5 for digits, 8) by 8 bits, each with a weight byte that ``readers`` multipliers
    share, and ``dram_bytes``. A multiplier's energy is taken as proportional to its operands' bits."""
    arithmetic = products * (MULTIPLY_8_PJ * product_bits / 8 + ADD_32_PJ)
    return Energy(arithmetic * 1e-6, products / readers * SRAM_BYTE_PJ * 1e-6, dram_bytes * DRAM_BYTE_PJ * 1e-6)
