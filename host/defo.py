"""The Defo unit (Ditto, HPCA 2025) as ``kernels/defo.hpp`` has it: which reference linear operators take, by what each cost.

Its table is part of the counter records: the cycles of the last run for which a reference was asked. Who refers to no previous
step for good keeps nothing for a next one, so those cycles are without what keeping costs. Defo chooses between reference zero
and the previous step; Defo+ between these and the neighbour (spatial differences).
"""

from __future__ import annotations

import numpy as np

from ..hls.isa import Reference

TABLE = {
    Reference.ZERO: "original_cycles",
    Reference.PREVIOUS_STEP: "difference_cycles",
    Reference.NEIGHBOUR: "spatial_cycles",
}
CANDIDATES = {
    Reference.DEFO: (Reference.ZERO, Reference.PREVIOUS_STEP),
    Reference.DEFO_PLUS: (Reference.ZERO, Reference.PREVIOUS_STEP, Reference.NEIGHBOUR),
}


def decide(records: np.ndarray, asked: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Scalars with the references that operators take, of scalars ``asked``; ``linear`` bool [operations].

    Where Defo decides: the reference of fewest cycles, the first of them, one of unknown cost before all others. Who does not
    refer to the previous step then keeps nothing.
    """
    taken = asked.copy()
    for decides, candidates in CANDIDATES.items():
        chosen = linear & (asked["reference"] == decides)
        cycles = np.stack([records[TABLE[candidate]] for candidate in candidates])  # an untried one has 0
        taken["reference"][chosen] = np.array(candidates)[cycles.argmin(axis=0)][chosen]
        taken["keep_state"][chosen & (taken["reference"] != Reference.PREVIOUS_STEP)] = 0
    return taken


def record(records: np.ndarray, lean: np.ndarray, asked: np.ndarray, taken: np.ndarray, linear: np.ndarray) -> None:
    """Enter the cycles of a step's counter records in the table; ``lean``: those without what keeping operands costs."""
    for reference, field in TABLE.items():
        cycles = records["cycles"] if reference == Reference.PREVIOUS_STEP else lean
        chosen = linear & (asked["reference"] == reference)
        records[field][chosen] = np.minimum(cycles[chosen], np.iinfo(np.uint32).max)
    records["reference"][linear] = taken["reference"][linear]
