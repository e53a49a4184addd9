"""Energy is in proportion to products, weight bytes and DRAM bytes, with Horowitz's constants."""

from __future__ import annotations

import pytest
from ditto_zynq.host.costs.energy import energy


def test_a_million_of_each_on_paper():
    """0.2 pJ a product and 0.1 a sum, 10 pJ for 8 bytes on chip, 1300 pJ for 8 bytes of DRAM."""
    found = energy(products=1e6, size=1.0, readers=1, dram_bytes=1e6)
    assert (found.products, found.weights, found.dram) == pytest.approx((0.3, 1.25, 162.5))
    assert found.total == pytest.approx(164.05)


def test_smaller_multipliers_and_shared_weights_take_less():
    found = energy(products=1e6, size=0.5, readers=5, dram_bytes=0)
    assert (found.products, found.weights, found.dram) == pytest.approx((0.15, 0.25, 0))
