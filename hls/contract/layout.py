"""Where each axis of a traced tensor comes from: reshapes and transposes as bookkeeping on axes, not as operators.

A tensor is stored NHWC, whatever PyTorch's code does with it. Its layout says, for each axis PyTorch sees, which stored axis
(or which part of one) it is: ``view`` and ``transpose`` change the layout and nothing else. The host follows the layouts of a
model's input and output: frames of a video are stored below each other, patches of an image as channels of one pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

BATCH, HEIGHT, WIDTH, CHANNEL = "b", "h", "w", "c"
REPEAT = "r"  # a batch axis along which nothing changes
STORED = (HEIGHT, WIDTH, CHANNEL)


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


def sample_layout(shape: tuple[int, int, int]) -> Layout:
    """(channel, height, width) of one sample that is stored as ``shape`` (height, width, channels)."""
    return image_layout(1, *shape)[1:]


def to_stored(array: np.ndarray, layout: Layout, shape: tuple[int, int, int]) -> np.ndarray:
    """An array [B, axes of ``layout``] as [B, H, W, C] of ``shape``; the layout is one sample's and covers it."""
    order = _stored_order(layout)
    parts = array.reshape(len(array), *(part.size for axis in layout for part in axis))
    return parts.transpose(0, *(1 + index for index in order)).reshape(len(array), *shape)


def from_stored(array: np.ndarray, layout: Layout) -> np.ndarray:
    """The inverse of :func:`to_stored`."""
    order = _stored_order(layout)
    parts = [part for axis in layout for part in axis]
    stored = array.reshape(len(array), *(parts[index].size for index in order))
    return stored.transpose(0, *(1 + order.index(index) for index in range(len(parts)))).reshape(
        len(array), *shape_of(layout)
    )


def _stored_order(layout: Layout) -> list[int]:
    """Numbers of the layout's parts in the order in which they are stored."""
    parts = [part for axis in layout for part in axis]
    return sorted(range(len(parts)), key=lambda index: (STORED.index(parts[index].axis), -parts[index].stride))


def check_layout(layout: Layout, shape: tuple[int, int, int], name: str) -> None:
    """ValueError where a layout is not one of every element of ``shape`` (height, width, channels), each once."""
    parts = [part for axis in layout for part in axis]
    covered = dict.fromkeys(STORED, 1)
    for part in sorted(parts, key=lambda part: (part.stride, part.size)):
        if part.axis not in covered or part.size < 1 or part.stride != covered[part.axis]:
            raise ValueError(f"{name}: found {part} in its layout, expected parts of h, w and c that follow each other")
        covered[part.axis] *= part.size
    if tuple(covered.values()) != shape:
        raise ValueError(f"{name}: found a layout of {tuple(covered.values())}, expected one of {shape}")


def without(layout: Layout, *axes: str) -> Layout:
    """The layout with the parts of some stored axes left out."""
    return tuple(tuple(part for part in axis if part.axis not in axes) for axis in layout)


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
            if not parts:
                raise ValueError(f"a view of {shape_of(layout)} as {tuple(shape)} has more elements")
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
        axes.append(merge(taken))
    return tuple(axes)


def merge(parts: Iterable[Part]) -> Axis:
    """Parts of one axis; those that are consecutive steps of one stored axis become one."""
    merged: list[Part] = []
    for part in parts:
        if merged and merged[-1].axis == part.axis and merged[-1].stride == part.stride * part.size:
            part = Part(part.axis, merged.pop().size * part.size, part.stride)
        merged.append(part)
    return tuple(merged)
