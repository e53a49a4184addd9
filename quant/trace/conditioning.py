"""Conditioning (what depends on timestep and label only) is evaluated for every step and folded into operators' tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import fx

from ...hls.contract.layout import BATCH, HEIGHT, REPEAT, WIDTH, Layout, axis_size, shape_of, to_stored, without
from ...hls.contract.operators import Convolution, Node
from .traced import Builder, Term, UnsupportedOperator, module_path


def mark_conditional(builder: Builder) -> None:
    """Give the operators that conditioning is folded into their flags. UnsupportedOperator for an order of terms that has
    no form."""
    for name, folded in builder.conditioning.items():
        node, operations = builder.nodes[name], [term.operation for term in folded]
        if not isinstance(node, Convolution):
            builder.nodes[name] = dataclasses.replace(node, conditional=True)  # type: ignore[call-arg]
            continue
        added = operations.count("add")
        if "add" in operations[added:]:
            raise UnsupportedOperator(f"{name}: conditioning that is added to a gated layer's result is not supported")
        builder.nodes[name] = dataclasses.replace(node, conditional=added > 0, gated=len(operations) > added)


def fold_conditioning(
    builder: Builder,
    exported: fx.GraphModule,
    inputs: Mapping[str, torch.Tensor],
    timesteps: Sequence[float],
    labels: int,
) -> None:
    """Evaluate all conditioning terms for every step and label and make the tables of their operators, which are marked
    (:func:`mark_conditional`), conditional.

    ``inputs`` of the exported model, [batch, ...], are what terms may depend on. ValueError for a term that is not finite.
    """
    if not builder.conditioning:
        return
    terms = [term for folded in builder.conditioning.values() for term in folded]
    evaluate = conditioning_module(exported, [term.node for term in terms])
    rows: list[list[torch.Tensor]] = []
    for timestep in timesteps:
        fed = dict(inputs, timestep=torch.full_like(inputs["timestep"], timestep))
        with torch.no_grad():
            results = evaluate(*(fed[node.name] for node in evaluate.graph.nodes if node.op == "placeholder"))
        rows.append([_term_value(term, value, timestep)[:labels] for term, value in zip(terms, results, strict=True)])
    values = dict(zip(terms, (torch.stack(column) for column in zip(*rows, strict=True)), strict=True))
    for name, folded in builder.conditioning.items():
        node, shape = builder.nodes[name], (len(timesteps), labels, builder.tensors[name].shape[2])
        terms_of_node = [
            ("add" if term.operation == "add" else "multiply", values[term].expand(shape)) for term in folded
        ]
        if isinstance(node, Convolution):
            _fold_into_convolution(builder, node, terms_of_node, shape)
        else:
            _fold_into_norm(builder, node, terms_of_node, shape)


def _term_value(term: Term, value: torch.Tensor, timestep: float) -> torch.Tensor:
    """What is added or multiplied, [B or 1, C or 1]."""
    value = 1 / value if term.operation == "divide" else value
    if not bool(torch.isfinite(value).all()):
        raise ValueError(
            f"{module_path(term.node) or '(model)'}: found conditioning at timestep {timestep} that is not finite"
        )
    return per_channel(value, term.layout)


def _fold_into_norm(
    builder: Builder, node: Node, terms: list[tuple[str, torch.Tensor]], shape: tuple[int, ...]
) -> None:
    gain, offset = (builder.parameters[f"{node.name}.{key}"].expand(shape) for key in ("gain", "offset"))
    for operation, value in terms:
        if operation == "multiply":
            gain, offset = gain * value, offset * value
        else:
            offset = offset + value
    builder.parameters.update({f"{node.name}.gain": gain, f"{node.name}.offset": offset})


def _fold_into_convolution(
    builder: Builder, node: Convolution, terms: list[tuple[str, torch.Tensor]], shape: tuple[int, ...]
) -> None:
    """Sums go into the bias, products into the multipliers, which come after it."""
    added = [value for operation, value in terms if operation == "add"]
    gates = [value for operation, value in terms if operation == "multiply"]
    if added:
        bias = builder.parameters[f"{node.name}.bias"].expand(shape)
        builder.parameters[f"{node.name}.bias"] = sum(added, bias)
    if gates:
        builder.parameters[f"{node.name}.gate"] = torch.stack(gates).prod(dim=0)


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
    """Cut in its parts, without those of the stored axes ``same``, along which it must be the same."""
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


def conditioning_module(exported: fx.GraphModule, terms: list[fx.Node]) -> fx.GraphModule:
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
