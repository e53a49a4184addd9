"""The Defo unit (Ditto, HPCA 2025) as ``kernels/defo.hpp`` has it: which reference linear operators take, by what each cost.

Its table is part of the counter records: the cycles of the last run for which reference zero, or the previous step, was
asked. Who takes reference zero for good keeps nothing for a next step, so the former are without what keeping costs.
"""

from __future__ import annotations

import numpy as np

from ..hls.isa import Reference


def decide(records: np.ndarray, asked: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Scalars with the references that operators take, of scalars ``asked``; ``linear`` bool [operations].

    Where Defo decides: the cheaper reference, one of unknown cost first. Who takes reference zero then keeps nothing.
    """
    taken = asked.copy()
    original, difference = records["original_cycles"], records["difference_cycles"]
    cheaper = (original != 0) & ((difference == 0) | (difference < original))
    decides = linear & (asked["reference"] == Reference.DEFO)
    taken["reference"][decides] = np.where(cheaper, Reference.PREVIOUS_STEP, Reference.ZERO)[decides]
    taken["keep_state"][decides] &= cheaper[decides]
    return taken


def record(records: np.ndarray, lean: np.ndarray, asked: np.ndarray, taken: np.ndarray, linear: np.ndarray) -> None:
    """Enter the cycles of a step's counter records in the table; ``lean``: those without what keeping operands costs."""
    for field, reference, cycles in (
        ("original_cycles", Reference.ZERO, lean),
        ("difference_cycles", Reference.PREVIOUS_STEP, records["cycles"]),
    ):
        chosen = linear & (asked["reference"] == reference)
        records[field][chosen] = np.minimum(cycles[chosen], np.iinfo(np.uint32).max)
    records["reference"][linear] = taken["reference"][linear]
