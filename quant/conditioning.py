"""Conditioning (what depends on timestep and label only) is evaluated for every step and folded into operators' tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import fx

from ..hls.graph import Convolution
from .traced import Builder


def fold_conditioning(
    builder: Builder, exported: fx.GraphModule, inputs: dict[str, torch.Tensor], timesteps: Sequence[int], labels: int
) -> None:
    """Evaluate all conditioning terms for every step and label and make the tables of their operators conditional."""
    if not builder.conditioning:
        return
    terms = [term for folded in builder.conditioning.values() for _, term in folded]
    evaluate = _conditioning_module(exported, terms)
    rows: list[list[torch.Tensor]] = []
    for timestep in timesteps:
        fed = dict(inputs, timestep=torch.full_like(inputs["timestep"], int(timestep)))
        with torch.no_grad():
            results = evaluate(*(fed[node.name] for node in evaluate.graph.nodes if node.op == "placeholder"))
        rows.append([result.flatten(1)[:labels] for result in results])
    values = dict(zip(terms, (torch.stack(column) for column in zip(*rows, strict=True)), strict=True))
    for name, folded in builder.conditioning.items():
        node = builder.nodes[name]
        names = ("bias",) if isinstance(node, Convolution) else ("gain", "offset")
        tables = [builder.parameters[f"{name}.{key}"].expand(len(timesteps), labels, -1) for key in names]
        for operation, term in folded:
            if operation == "multiply":
                tables = [table * values[term] for table in tables]
            else:
                tables[-1] = tables[-1] + values[term]
        builder.parameters.update({f"{name}.{key}": table for key, table in zip(names, tables, strict=True)})
        builder.nodes[name] = dataclasses.replace(node, conditional=True)  # type: ignore[call-arg]


def _conditioning_module(exported: fx.GraphModule, terms: list[fx.Node]) -> fx.GraphModule:
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
