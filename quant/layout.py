"""Where each axis of a traced tensor comes from: reshapes and transposes as bookkeeping on axes, not as operators.

A traced tensor is stored NHWC, whatever PyTorch's code does with it. Its layout says, for each axis PyTorch sees, which
stored axis (or which part of one) it is: ``view`` and ``transpose`` change the layout and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BATCH, HEIGHT, WIDTH, CHANNEL = "b", "h", "w", "c"


@dataclass(frozen=True)
class Part:
    """``size`` consecutive steps of ``stride`` along stored axis ``axis``: its whole, or one digit of a split."""

    axis: str
    size: int
    stride: int = 1


Axis = tuple[Part, ...]
Layout = tuple[Axis, ...]


def image_layout(batch: int, height: int, width: int, channels: int) -> Layout:
    """PyTorch's NCHW order."""
    return tuple(
        _axis(Part(axis, size))
        for axis, size in ((BATCH, batch), (CHANNEL, channels), (HEIGHT, height), (WIDTH, width))
    )


def _axis(*parts: Part) -> Axis:
    return tuple(part for part in parts if part.size != 1)


def axis_size(axis: Axis) -> int:
    return math.prod(part.size for part in axis)


def shape_of(layout: Layout) -> tuple[int, ...]:
    return tuple(axis_size(axis) for axis in layout)


def permute(layout: Layout, order: Sequence[int]) -> Layout:
    return tuple(layout[index] for index in order)


def reshape(layout: Layout, shape: Sequence[int]) -> Layout:
    """The layout after ``view(shape)``; ValueError where an axis would mix parts that do not divide."""
    parts = [part for axis in layout for part in axis]
    axes: list[Axis] = []
    for size in shape:
        taken: list[Part] = []
        while axis_size(tuple(taken)) < size:
            missing = size // axis_size(tuple(taken))
            part = parts.pop(0)
            if part.size > missing:
                if part.size % missing or size % axis_size(tuple(taken)):
                    raise ValueError(f"a view of {shape_of(layout)} as {tuple(shape)} cuts an axis unevenly")
                rest = part.size // missing
                parts.insert(0, Part(part.axis, rest, part.stride))
                part = Part(part.axis, missing, part.stride * rest)
            taken.append(part)
        if axis_size(tuple(taken)) != size:
            raise ValueError(f"a view of {shape_of(layout)} as {tuple(shape)} cuts an axis unevenly")
        axes.append(_merge(taken))
    return tuple(axes)


def _merge(parts: list[Part]) -> Axis:
    merged: list[Part] = []
    for part in parts:
        if merged and merged[-1].axis == part.axis and merged[-1].stride == part.stride * part.size:
            part = Part(part.axis, merged.pop().size * part.size, part.stride)
        merged.append(part)
    return tuple(merged)
