"""Which steps share scales. Groups are even cuts of the schedule, unless the model's inputs differ too much within one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ...hls.common.notices import FEWEST_LEVELS, PrecisionWarning

SPREAD = 8.0  # largest to smallest input of a group, from which on its quietest step would have less than 5 of 8 bits


def group_steps(even: Sequence[int], ranges: Sequence[float]) -> tuple[int, ...]:
    """Group of every step, as many groups as in ``even``, the even cut.

    ``ranges``: the largest magnitude of the model's input in every step. The even cut is kept where no group's ranges differ by
    more than SPREAD; else the groups are those whose worst spread is smallest.
    """
    if _worst_spread(even, ranges) <= SPREAD:
        return tuple(even)
    groups = max(even) + 1
    low, high = 1.0, _worst_spread([0] * len(ranges), ranges)
    for _ in range(60):  # bisection: the least spread with which the groups are enough
        middle = (low * high) ** 0.5
        low, high = (low, middle) if len(_cut(ranges, middle)) <= groups else (middle, high)
    starts = _cut(ranges, high)
    while len(starts) < groups:  # some are left over: the longest groups are halved
        ends = [*starts[1:], len(ranges)]
        first, last = max(zip(starts, ends, strict=True), key=lambda group: group[1] - group[0])
        starts = sorted([*starts, (first + last) // 2])
    return tuple(sum(start <= step for start in starts) - 1 for step in range(len(ranges)))


def levels_of(groups: Sequence[int], ranges: Sequence[float]) -> list[float]:
    """How many of the 127 positive codes each step's largest input reaches where its group's largest reaches all of them."""
    largest: dict[int, float] = {}
    for group, value in zip(groups, ranges, strict=True):
        largest[group] = max(largest.get(group, 1e-30), value)
    return [127 * value / largest[group] for group, value in zip(groups, ranges, strict=True)]


def warn_of_few_levels(groups: Sequence[int], ranges: Sequence[float]) -> None:
    """A PrecisionWarning that names the step whose input is smallest beside its group's largest, if it is very small."""
    levels = levels_of(groups, ranges)
    step = min(range(len(levels)), key=levels.__getitem__)
    if levels[step] < FEWEST_LEVELS:
        largest = max(value for group, value in zip(groups, ranges, strict=True) if group == groups[step])
        warnings.warn(
            f"the input of step {step} reaches {levels[step]:.1f} of 127 codes: its values are up to {ranges[step]:.3g}, "
            f"those of its step group up to {largest:.3g}; quantize with more --groups",
            PrecisionWarning,
            stacklevel=2,
        )


def _worst_spread(groups: Sequence[int], ranges: Sequence[float]) -> float:
    parts = [[r for g, r in zip(groups, ranges, strict=True) if g == group] for group in sorted(set(groups))]
    return max(max(part) / max(min(part), 1e-30) for part in parts)


def _cut(ranges: Sequence[float], spread: float) -> list[int]:
    """First steps of as few groups as there can be, none of which has more than this spread."""
    starts, low, high = [0], ranges[0], ranges[0]
    for step, value in enumerate(ranges):
        low, high = min(low, value), max(high, value)
        if high / max(low, 1e-30) > spread:  # as _worst_spread divides: a product may be rounded to the other side
            starts.append(step)
            low = high = value
    return starts
