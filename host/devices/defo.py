"""The Defo unit (Ditto, HPCA 2025) as ``kernels/defo.hpp`` has it: which reference linear operators take, by what each cost.

Its table is part of the counter records: the cycles of the last run for which a reference was asked. Who refers to no previous
step for good keeps nothing for a next one, so those cycles are without what keeping costs. Defo chooses between reference zero
and the previous step; Defo+ between these and the neighbour (spatial differences).
"""

from __future__ import annotations

import numpy as np

from ...hls.contract.references import KINDS, PREVIOUS_STEP, ZERO, Reference


def decide(records: np.ndarray, asked: np.ndarray, linear: np.ndarray, leaders: np.ndarray) -> np.ndarray:
    """Scalars with the references that operators take, of scalars ``asked``; ``linear`` bool and ``leaders`` int [operations].

    Where Defo decides: the reference of fewest cycles, the first of them, one of unknown cost before all others. Who does not
    refer to the previous step then keeps nothing. Across a change of scales differences are wider: then reference zero may be
    cheaper for once, and keeps. A follower does as its leader.
    """
    taken = asked.copy()
    for decides in (kind for kind in KINDS.values() if kind.candidates):
        chosen = linear & (asked["reference"] == decides.reference)
        cycles = np.stack([records[candidate.column] for candidate in decides.candidates])[:, leaders]  # 0: untried
        best = np.array([candidate.reference for candidate in decides.candidates])[cycles.argmin(axis=0)]
        differs = best == PREVIOUS_STEP.reference
        widened = asked["rescaled"] & (records["keeping_cycles"] < records["rescaled_cycles"])[leaders]
        taken["reference"][chosen] = np.where(differs & (widened != 0), ZERO.reference, best)[chosen]
        taken["keep_state"][chosen & ~differs] = 0
    return taken


def record(
    records: np.ndarray, lean: np.ndarray, asked: np.ndarray, taken: np.ndarray, linear: np.ndarray, leaders: np.ndarray
) -> None:
    """Enter the cycles of a step's counter records in the table; ``lean``: those without what keeping operands costs."""
    cycles = records["cycles"].astype(np.int64)
    rescaled = (taken["reference"] == Reference.PREVIOUS_STEP) & (taken["rescaled"] != 0)
    entries = [
        (kind.column, asked["reference"] == kind.reference, cycles if kind.keeps else lean)
        for kind in KINDS.values()
        if kind.column is not None
    ]
    entries += [
        ("keeping_cycles", asked["reference"] == Reference.ZERO, cycles),
        ("rescaled_cycles", rescaled, cycles),
    ]
    for field, chosen, counted in entries:
        chosen = linear & chosen
        totals = np.zeros(len(records), np.int64)
        np.add.at(totals, leaders[chosen], counted[chosen])
        changed = np.unique(leaders[chosen])
        records[field][changed] = np.minimum(totals[changed], np.iinfo(np.uint32).max)
    leading = np.unique(leaders[linear])
    records["reference"][leading] = taken["reference"][leading]
    records["kept"][leading] = taken["keep_state"][leading]
