"""Quantizers in one part or two."""

from __future__ import annotations

from ditto_zynq.hls.contract.operators import Quantize
from ditto_zynq.quant.operators import OPERATORS


def test_two_parts_are_the_most():
    operator, node = OPERATORS[Quantize], Quantize("n", "n", ("x",))
    fine = operator.in_two_parts(node)
    assert fine is not None and fine.fine and operator.in_two_parts(fine) is None
    others = [other for kind, other in OPERATORS.items() if kind is not Quantize]
    assert all(other.in_two_parts(node) is None for other in others)
