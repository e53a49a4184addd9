"""Terms that activations are added to or multiplied by and that do not depend on the sample: how they are computed and stored."""

from __future__ import annotations

import torch
from torch import fx

from ...hls.contract.layout import BATCH, HEIGHT, REPEAT, WIDTH, Layout, axis_size, shape_of, to_stored, without


def per_channel(value: torch.Tensor, layout: Layout) -> torch.Tensor:
    """A term that is added to, or multiplied by, an activation with ``layout``: [B or 1, C]. ValueError where it differs between
    pixels of a sample."""
    return _by_pixel(value, layout, same=(HEIGHT, WIDTH, REPEAT)).flatten(1)


def per_pixel(value: torch.Tensor, layout: Layout, shape: tuple[int, int, int]) -> torch.Tensor:
    """A term that is the same for all samples, as it is stored: [H, W, C]."""
    one = _by_pixel(value.expand(shape_of(layout)), layout, same=(BATCH, REPEAT))
    kept = without(layout, BATCH, REPEAT)
    return torch.from_numpy(to_stored(one.reshape(1, *shape_of(kept)).numpy(), kept, shape)[0])


def _by_pixel(value: torch.Tensor, layout: Layout, same: tuple[str, ...]) -> torch.Tensor:
    """Cut ``value`` in its parts, without those of the stored axes ``same``, along which it must be the same."""
    value = value.reshape((1,) * (len(layout) - value.ndim) + tuple(value.shape))
    sizes, axes = [], []
    for axis, size in zip(layout, value.shape, strict=True):
        sizes += [part.size for part in axis] if size != 1 or axis_size(axis) == 1 else [1] * len(axis)
        axes += [part.axis for part in axis]
    value = value.reshape(sizes)
    for dimension in reversed(range(len(axes))):
        if axes[dimension] in same:
            first = value.narrow(dimension, 0, 1)
            if not torch.equal(value, first.expand_as(value)):
                raise ValueError("found a term of the conditioning that differs between the pixels of a sample")
            value = first.squeeze(dimension)
    return value


def terms_module(exported: fx.GraphModule, terms: list[fx.Node]) -> fx.GraphModule:
    """The part of the exported model that computes ``terms`` from timestep and labels."""
    needed: set[fx.Node] = set()
    pending = list(terms)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending.extend(node.all_input_nodes)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in exported.graph.nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, lambda source: copies[source])
    graph.output(tuple(copies[term] for term in terms))
    return fx.GraphModule(exported, graph)
