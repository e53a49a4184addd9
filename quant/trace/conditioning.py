"""Conditioning (what depends on timestep and label only) is evaluated for every step and folded into operators' tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import fx

from ..builders.terms import per_channel, terms_module
from ..builders.traced import Builder, Term, module_path
from ..operators import CONDITIONED


def mark_conditional(builder: Builder) -> None:
    """Give the operators that conditioning is folded into their flags. UnsupportedOperator for an order of terms that has
    no form."""
    for name, folded in builder.conditioning.items():
        node = builder.nodes[name]
        operations = [term.operation for term in folded]
        builder.nodes[name] = CONDITIONED[type(node)].conditioned(node, operations)


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
    evaluate = terms_module(exported, [term.node for term in terms])
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
        folded_in = CONDITIONED[type(node)].folded(node, builder.parameters, terms_of_node, shape)
        builder.parameters.update(folded_in)


def _term_value(term: Term, value: torch.Tensor, timestep: float) -> torch.Tensor:
    """What is added or multiplied, [B or 1, C or 1]."""
    value = 1 / value if term.operation == "divide" else value
    if not bool(torch.isfinite(value).all()):
        raise ValueError(
            f"{module_path(term.node) or '(model)'}: found conditioning at timestep {timestep} that is not finite"
        )
    return per_channel(value, term.layout)
