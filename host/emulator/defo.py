"""The Defo unit (Ditto, HPCA 2025) as ``kernels/defo.hpp`` has it: which reference linear operators take, by what each cost.

Its table is part of the counter records: the cycles of the last run for which a reference was asked. Who refers to no previous
step for good keeps nothing for a next one, so those cycles are without what keeping costs. Defo chooses between reference zero
and the previous step; Defo+ between these and the neighbour (spatial differences).
"""

from __future__ import annotations

import numpy as np

from ...hls.contract.references import Reference

TABLE = {
    Reference.ZERO: "original_cycles",
    Reference.PREVIOUS_STEP: "difference_cycles",
    Reference.NEIGHBOUR: "spatial_cycles",
}
CANDIDATES = {
    Reference.DEFO: (Reference.ZERO, Reference.PREVIOUS_STEP),
    Reference.DEFO_PLUS: (Reference.ZERO, Reference.PREVIOUS_STEP, Reference.NEIGHBOUR),
}


def decide(records: np.ndarray, asked: np.ndarray, linear: np.ndarray, leaders: np.ndarray) -> np.ndarray:
    """Scalars with the references that operators take, of scalars ``asked``; ``linear`` bool and ``leaders`` int [operations].

    Where Defo decides: the reference of fewest cycles, the first of them, one of unknown cost before all others. Who does not
    refer to the previous step then keeps nothing. Across a change of scales differences are wider: then reference zero may be
    cheaper for once, and keeps. A follower does as its leader.
    """
    taken = asked.copy()
    for decides, candidates in CANDIDATES.items():
        chosen = linear & (asked["reference"] == decides)
        cycles = np.stack([records[TABLE[candidate]] for candidate in candidates])[:, leaders]  # an untried one has 0
        best = np.array(candidates)[cycles.argmin(axis=0)]
        differs = best == Reference.PREVIOUS_STEP
        widened = asked["rescaled"] & (records["keeping_cycles"] < records["rescaled_cycles"])[leaders]
        taken["reference"][chosen] = np.where(differs & (widened != 0), Reference.ZERO, best)[chosen]
        taken["keep_state"][chosen & ~differs] = 0
    return taken


def record(
    records: np.ndarray, lean: np.ndarray, asked: np.ndarray, taken: np.ndarray, linear: np.ndarray, leaders: np.ndarray
) -> None:
    """Enter the cycles of a step's counter records in the table; ``lean``: those without what keeping operands costs."""
    cycles = records["cycles"].astype(np.int64)
    rescaled = (taken["reference"] == Reference.PREVIOUS_STEP) & (taken["rescaled"] != 0)
    for field, chosen, counted in (
        ("original_cycles", asked["reference"] == Reference.ZERO, lean),
        ("keeping_cycles", asked["reference"] == Reference.ZERO, cycles),
        ("difference_cycles", asked["reference"] == Reference.PREVIOUS_STEP, cycles),
        ("rescaled_cycles", rescaled, cycles),
        ("spatial_cycles", asked["reference"] == Reference.NEIGHBOUR, lean),
    ):
        chosen = linear & chosen
        totals = np.zeros(len(records), np.int64)
        np.add.at(totals, leaders[chosen], counted[chosen])
        changed = np.unique(leaders[chosen])
        records[field][changed] = np.minimum(totals[changed], np.iinfo(np.uint32).max)
    leading = np.unique(leaders[linear])
    records["reference"][leading] = taken["reference"][leading]
    records["kept"][leading] = taken["keep_state"][leading]
