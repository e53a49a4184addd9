"""What the scalars of a parameter block must be, besides its program's descriptors (:mod:`.descriptor_rules`).

With these shifts, multipliers, epsilons and scales no unit shifts too far, reads beyond a table or divides by zero. Checked for
every block that runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..common.limits import LARGEST_EPSILON, MOST_GAIN_BITS
from ..contract.arithmetic import MAX_SHIFT
from ..contract.references import KINDS, Reference
from .accesses import Sizes, is_aligned, is_inside
from .isa import SCALARS, Flag, Opcode, Region
from .order_rules import apart_from_others
from .refusal import Refusal, Rules

SWITCH = (0, 1)
SHIFT = (0, MAX_SHIFT)
ANY = (-(1 << 31), (1 << 31) - 1)
NOT_NEGATIVE = (0, (1 << 31) - 1)
ALWAYS = {"parity": SWITCH, "skip": SWITCH, "rescaled": SWITCH, "reserved": (0, 0), "reserved_wide": (0, 0)}
QUANTIZING = {"quantize_multiplier": ANY, "quantize_shift": SHIFT}  # of every operation with a fused quantizer
CHOICES = [number for number, kind in KINDS.items() if kind.candidates]
_LINEAR = {"shift": SHIFT, "reference": (min(Reference), max(Reference)), "keep_state": SWITCH}
_ATTENTION = _LINEAR | {"multiplier0": ANY}
_NORM = {"gain_bits": (0, MOST_GAIN_BITS), "epsilon": (1, LARGEST_EPSILON)}
RANGES: dict[Opcode, dict[str, tuple[int, int]]] = {
    Opcode.CONVOLUTION: _LINEAR,
    Opcode.SCORES: _ATTENTION,
    Opcode.MIX: _ATTENTION,
    Opcode.GROUP_NORM: _NORM,
    Opcode.LAYER_NORM: _NORM,
    Opcode.ADD: {"shift": SHIFT, "multiplier0": ANY, "multiplier1": ANY},
    Opcode.MULTIPLY: {"shift": SHIFT, "multiplier1": ANY},
    Opcode.ACTIVATE: {},
    Opcode.SOFTMAX: {"shift": SHIFT, "multiplier0": NOT_NEGATIVE},
    Opcode.AVERAGE_POOL: {"shift": SHIFT, "multiplier0": ANY},
    Opcode.UPSAMPLE: {},
}
"""Smallest and largest legal value of every scalar that an operation reads, besides those of :data:`ALWAYS`."""


class ScalarRules:
    """The rules of a program that :func:`.descriptor_rules.check_descriptors` lets pass. ``sizes``: of regions, in bytes."""

    def __init__(self, descriptors: np.ndarray, sizes: Mapping[Region, int]):
        self._sizes = Sizes(descriptors)
        self._limits = _limits(self._sizes)
        self._state_fits = _state_fits(self._sizes, sizes)
        self._follows = self._sizes.has(Flag.FOLLOWS)
        together = self._sizes["channel_groups"] > 0
        together[1:] |= together[:-1].copy()
        self._together = together
        self._first_parts = self._sizes.first_parts()
        self._has_parts = bool(np.any(self._first_parts != np.arange(len(descriptors))))

    def check(self, scalars: np.ndarray) -> Refusal | None:
        """The first of ``scalars`` (records [n] of the ISA) that may not be."""
        rules, s = Rules(), self._sizes
        for name, (low, high) in self._limits.items():
            rules.require((scalars[name] >= low) & (scalars[name] <= high), f"a legal {name}")
        runs, reference = scalars["skip"] == 0, scalars["reference"]
        decided = s.is_linear & runs & np.isin(reference, CHOICES)
        keeps = (scalars["keep_state"] != 0) | (reference == Reference.PREVIOUS_STEP) | decided
        kept_inside = "what is kept inside STATE, aligned and apart"
        rules.require(~(s.is_linear & runs & keeps) | self._state_fits, kept_inside)
        rules.require(runs | ~self._together, "channel groups that are not skipped")
        asked = scalars[["reference", "keep_state", "rescaled", "skip", "parity"]]
        rules.require(~self._follows | (asked == asked[s["leader"]]), "the scalars of its leader")
        if self._has_parts:
            rules.require(scalars == scalars[self._first_parts], "the scalars of the batch's first part")
        return rules.refusal


def _limits(s: Sizes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Smallest and largest legal value of each field of scalars, int64 [n]."""
    limits: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def limit(name: str, here: np.ndarray, low: int, high: int) -> None:
        lowest, highest = np.iinfo(SCALARS[name]).min, np.iinfo(SCALARS[name]).max
        lows, highs = limits.setdefault(name, (np.full(len(here), lowest), np.full(len(here), highest)))
        lows[here], highs[here] = low, high

    for opcode, ranges in RANGES.items():
        for name, (low, high) in ranges.items():
            limit(name, s.opcode == opcode, low, high)
    for name, (low, high) in QUANTIZING.items():
        limit(name, s.has(Flag.QUANTIZE), low, high)
    for name, (low, high) in ALWAYS.items():
        limit(name, np.ones(len(s.opcode), bool), low, high)
    return limits


def _state_fits(s: Sizes, sizes: Mapping[Region, int]) -> np.ndarray:
    """bool [n]: whether a linear operator can keep operands and accumulators."""
    accesses, fits = s.state(), np.ones(len(s.opcode), bool)
    for access in accesses:
        fits &= is_inside(access, sizes) & is_aligned(access) | ~access.used
    for one, other in itertools.combinations(accesses, 2):
        fits &= ~one.meets(other)
    *operands, sums = accesses
    own = ~s.has(Flag.SHARES_OPERAND)  # else another one keeps the operand
    kept = [replace(operand, used=operand.used & own) for operand in operands]
    return fits & apart_from_others([*kept, sums], s.first_parts())
