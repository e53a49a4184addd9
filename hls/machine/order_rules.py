"""What descriptors must be to each other: those that run at the same time, and those that are parts of one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..common.limits import FURTHEST_PART, LARGEST_DIMENSION
from .accesses import Access, Sizes, times
from .config import HardwareConfig
from .isa import Flag, Opcode, Region
from .refusal import Rules

FOLLOWING = ("input", "other", "output", "state_input", "state_other", "state_accumulators", "vector0", "vector1")
OF_PARTS = {*FOLLOWING, "batch", "flags", "node", "leader", "scalars"}  # may differ between the parts of a batch
PART_FLAGS = Flag.FOLLOWS | Flag.PAIRED


def check_neighbours(rules: Rules, s: Sizes, config: HardwareConfig) -> None:
    """Descriptors that run at the same time: channel groups of a convolution and the GROUP_NORM after it, and pairs."""
    parts, paired = s["channel_groups"], s.has(Flag.PAIRED)
    overlapped = parts > 0
    rules.require(
        ~overlapped | (s.is_convolution & (parts > 1) & (parts <= config.channel_groups)), "legal channel groups"
    )
    last = np.arange(len(parts)) == len(parts) - 1
    rules.require(~(overlapped | paired) | ~last, "a descriptor to run at the same time")
    rules.require(~overlapped | ~paired, "channel groups or a pair")
    if len(parts) < 2:
        return

    def extended(legal: np.ndarray) -> np.ndarray:
        return np.append(legal, True)

    here, after = slice(None, -1), slice(1, None)
    rules.require(extended(~paired[here] | ~s.is_linear[after]), "a pair of a linear and a vector operation")
    input_here, other_here, output_here = (access.at(here) for access in s.tensors())
    input_after, other_after, output_after = (access.at(after) for access in s.tensors())
    reads = [one.meets(output_after) for one in (input_here, other_here)]
    clash = np.logical_or.reduce(reads + [output_here.meets(one) for one in (input_after, other_after, output_after)])
    rules.require(extended(~paired[here] | ~clash), "pairs that share no result")
    same = (s["output"][here] == s["input"][after]) & (s["output_pitch"][here] == s["input_pitch"][after])
    for output, operand in (
        ("batch", "batch"),
        ("output_height", "height"),
        ("output_width", "width"),
        ("output_channels", "channels"),
    ):
        same &= s[output][here] == s[operand][after]
    same &= (s.opcode[after] == Opcode.GROUP_NORM) & ~s.has(Flag.CODE_OUTPUT)[here]
    rules.require(extended(~overlapped[here] | same), "channel groups of the GROUP_NORM's operand")
    groups = np.maximum(parts, 1)[here]
    even = (s["output_channels"][here] % (groups * config.oc_tile) == 0) & (s.norm["groups"][after] % groups == 0)
    rules.require(extended(~overlapped[here] | even), "whole tiles and norm groups in a channel group")
    rules.require(
        extended(~overlapped[here] | ~(reads[0] | output_here.meets(output_after))),
        "channel groups that keep the operand",
    )


def check_sharing(rules: Rules, s: Sizes) -> None:
    """A convolution whose operand another one keeps reads and keeps that operand, of as many samples."""
    shares, leader, first = (
        s.has(Flag.SHARES_OPERAND),
        np.minimum(s["leader"], np.arange(len(s.opcode))),
        s.first_parts(),
    )
    samples = np.zeros(len(first), np.int64)
    np.add.at(samples, first, s["batch"])
    same = s.has(Flag.FOLLOWS) & s.is_convolution[leader] & (samples[first] == samples[first[leader]])
    for name in ("input", "input_pitch", "height", "width", "channels", "state_input", "state_input_span"):
        same &= s[name][first] == s[name][leader]
    rules.require(~shares | same, "the operand that its leader keeps")


def check_parts(rules: Rules, s: Sizes, descriptors: np.ndarray) -> None:
    """Descriptors of one layer are parts of a batch: the same but for their samples, which follow each other in memory; and no
    descriptor between them uses what they write, or writes what they use."""
    first, index = s.first_parts(), np.arange(len(descriptors))
    later = np.flatnonzero(first != index)
    if not later.size:
        return
    order = np.argsort(s["layer"], kind="stable")
    before = np.empty_like(order)
    before[order[1:]] = order[:-1]
    before[order[:1]] = 0
    legal = np.ones(len(index), bool)
    legal[later] = _is_continued(s, descriptors, before[later], later)
    rules.require(legal, "parts of a batch that follow each other")
    samples = np.zeros(len(index), np.int64)
    np.add.at(samples, first, s["batch"])
    rules.require(samples <= LARGEST_DIMENSION, f"at most {LARGEST_DIMENSION} samples of all parts")
    near = index - first <= FURTHEST_PART
    rules.require(near, f"parts of a batch at most {FURTHEST_PART} descriptors apart")
    rules.require(
        apart_from_others(s.tensors(), np.where(near, first, index)),
        "parts of a batch that other descriptors between them leave alone",
    )


def _is_continued(s: Sizes, descriptors: np.ndarray, before: np.ndarray, here: np.ndarray) -> np.ndarray:
    same = np.ones(len(here), bool)
    for name in set(descriptors.dtype.names or ()) - OF_PARTS:
        same &= s[name][before] == s[name][here]
    same &= (s.flags[before] ^ s.flags[here]) & ~int(PART_FLAGS) == 0
    steps = dict.fromkeys(FOLLOWING, np.zeros_like(s.opcode))
    for access in (*s.tensors(), *s.vectors(), *s.state()):
        steps[access.name] = np.where(
            access.used | (access.region == Region.STATE) & s.is_linear, access.sample_bytes, 0
        )
    steps["state_other"] = np.where(s.is_attention, steps["state_other"], 0)
    for name in FOLLOWING:
        same &= s[name][here] == s[name][before] + times(s["batch"][before], steps[name][before])
    return same


def apart_from_others(accesses: Sequence[Access], first: np.ndarray) -> np.ndarray:
    """bool [n]: whether each part of a batch may run when the ``first`` one does: nothing between them that runs after the first
    part meets one of its ``accesses``."""
    count, legal = len(first), np.ones(len(first), bool)
    for distance in range(1, int((np.arange(count) - first).max(initial=0)) + 1):
        here = np.arange(distance, count)
        between = here - distance
        swapped = (first[here] < between) & (first[between] > first[here])
        here, between = here[swapped], between[swapped]
        for one in accesses:
            for other in accesses:
                if one.writes or other.writes:
                    legal[here] &= ~one.at(here).meets(other.at(between))
    return legal
