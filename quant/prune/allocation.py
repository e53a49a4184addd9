"""How many channels every group keeps: the share of its norms' scales above one quantile of the whole network's (REPrune,
equations 8 and 9), in numbers that fill the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diffusers.models.attention_processor import Attention
from torch import nn

from .coupling import LAYERS, OUT, ChannelGroup
from .coverage import Structure
from .macs import LayerMacs
from .narrow import channels_of
from .surgery import kept_positions, widths_of

Count = Callable[[Mapping[str, int]], int]  # multiplications, by what each group keeps


def counter(model: nn.Module, groups: Sequence[ChannelGroup], inputs: Mapping[str, Any]) -> Count:
    """Counts what a forward pass with ``inputs``, keyword arguments, multiplies once groups keep so many channels."""
    layers = LayerMacs(model, inputs)

    def count(sizes: Mapping[str, int]) -> int:
        kept = kept_positions(model, groups, {name: np.arange(size) for name, size in sizes.items()})
        return layers.total(widths_of(model, kept))

    return count


@dataclass(frozen=True)
class Grain:
    """Output channels that a ``tile`` of the engine has, and ``lanes`` that a word of operands has: a group that is larger than a
    tile keeps whole tiles, a smaller one whole words. More would take as many cycles."""

    tile: int = 32
    lanes: int = 8

    def of(self, size: int, least: int) -> int:
        """The step in which a group of ``size`` channels may shrink, itself in multiples of ``least``."""
        wanted = self.tile if size > self.tile else self.lanes
        return int(np.lcm(wanted, least)) if size % np.lcm(wanted, least) == 0 else least


def structure_of(group: ChannelGroup, model: nn.Module, whole_heads: bool = True) -> Structure:
    """What of a group may be chosen: heads of attention, whole or as many channels of each, or as many channels of each group of
    the norms that have nothing but the group's channels."""
    for _, slot in group.of(model, LAYERS, OUT):
        parent = model.get_submodule(slot.module.rpartition(".")[0])
        if isinstance(parent, Attention) and slot.module.endswith((".to_q", ".to_k", ".to_v")):
            if not whole_heads:
                return Structure.free(group.size, cells=parent.heads)
            return Structure.free(group.size, unit=group.size // parent.heads)
    norms = [norm for norm, slot in group.of(model, (nn.GroupNorm,), OUT) if channels_of(norm)[0] == group.size]
    cells = [norm.num_groups for norm in norms if isinstance(norm, nn.GroupNorm)]
    return Structure.free(group.size, cells=int(np.lcm.reduce(cells)) if cells else 1)


def least_of(group: ChannelGroup, model: nn.Module, whole_heads: bool = True) -> int:
    """The fewest channels that a group can keep, of which it keeps a multiple: what its structure and all its norms ask for."""
    structure = structure_of(group, model, whole_heads)
    whole = structure.units.shape[1] * (int(structure.cells.max()) + 1)
    groups = [norm.num_groups for norm, _ in group.of(model, (nn.GroupNorm,), OUT) if isinstance(norm, nn.GroupNorm)]
    return int(np.lcm.reduce([whole, *groups]))


@dataclass(frozen=True)
class Width:
    """A number of channels to choose: ``size`` there are, in steps of ``step``; ``scales`` float [N] that norms give the channels
    it is of, none of them where no norm does."""

    name: str
    size: int
    step: int
    scales: np.ndarray

    def at(self, threshold: float, of_equals: float, share: float) -> int:
        """What is kept where scales under ``threshold`` go and, of those that equal it, the part ``of_equals``; without scales,
        this ``share`` of the channels."""
        gone = share
        if len(self.scales):
            gone = float((self.scales < threshold).mean() + of_equals * (self.scales == threshold).mean())
        return int(np.clip(round((1 - gone) * self.size / self.step) * self.step, self.step, self.size))


def widths_of_groups(groups: Sequence[ChannelGroup], model: nn.Module, grain: Grain) -> list[Width]:
    """A width for each group."""
    result = []
    for group in groups:
        scales = group.gammas(model)
        step = grain.of(group.size, least_of(group, model))
        result.append(Width(group.name, group.size, step, scales[~np.isnan(scales)]))
    return result


def allocate(widths: Sequence[Width], count: Count, most: int) -> dict[str, int]:
    """What is kept of each width, so that at most ``most`` multiplications are left: those of the smallest quantile of all scales
    for which they are. ValueError, with the numbers, where the smallest widths are still too many."""
    every = np.concatenate([width.scales for width in widths])
    if not len(every):
        raise ValueError("found no norm with scales, by whose magnitudes channels are allotted")

    counted: dict[tuple[int, ...], int] = {}

    def at(share: float) -> dict[str, int]:
        threshold = float(np.quantile(every, share, method="inverted_cdf"))
        equals = int((every == threshold).sum())
        of_equals = float(np.clip((share * len(every) - (every < threshold).sum()) / equals, 0, 1))
        return {width.name: width.at(threshold, of_equals, share) for width in widths}

    def left(share: float) -> int:
        sizes = at(share)
        key = tuple(sizes.values())
        if key not in counted:
            counted[key] = count(sizes)
        return counted[key]

    fewest = left(1.0)
    if fewest > most:
        smallest = min(widths, key=lambda width: width.step / width.size)
        raise ValueError(
            f"found {fewest:,} multiplications with every layer at its fewest channels ({smallest.name}: {smallest.step} of "
            f"{smallest.size}), expected at most {most:,}; ask for more of them"
        )
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if left(middle) <= most else (middle, high)
    return at(high)


def filled(widths: Sequence[Width], sizes: Mapping[str, int], count: Count, most: int) -> dict[str, int]:
    """What :func:`allocate` gave, made wider step by step while ``most`` allows: each time the one that leaves most of it. For
    few widths with large steps."""
    result = dict(sizes)
    while True:
        wider = [result | {each.name: min(result[each.name] + each.step, each.size)} for each in widths]
        possible = [(count(each), each) for each in wider if each != result]
        fitting = [pair for pair in possible if pair[0] <= most]
        if not fitting:
            return result
        result = max(fitting, key=lambda pair: pair[0])[1]
