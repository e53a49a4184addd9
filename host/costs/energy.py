"""Energy of a run, estimated from what was counted: products, sums, on-chip weight reads and DRAM bytes.

The constants are Horowitz's for 45 nm ("Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9),
the node of Ditto's own evaluation; an FPGA takes several times as much for arithmetic. A multiplier of another kind takes as much
more or less as it has LUTs, by synthesis. Only ratios between designs mean something, and clocks and leakage are left out.
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


def energy(products: float, size: float, readers: int, dram_bytes: float) -> Energy:
    """The energy of ``products``, each with a sum and a weight byte that ``readers`` multipliers share, and of ``dram_bytes``.

    ``size``: LUTs of a multiplier, its sum, and its share of queues and control, relative to those of an 8 x 8 multiplier and
    its sum (``resources.multiplier_size``).
    """
    arithmetic = products * (MULTIPLY_8_PJ + ADD_32_PJ) * size
    return Energy(arithmetic * 1e-6, products / readers * SRAM_BYTE_PJ * 1e-6, dram_bytes * DRAM_BYTE_PJ * 1e-6)
