"""Operators that move nothing in memory: they change the layout through which a stored tensor is seen."""

from __future__ import annotations

import dataclasses

from torch import fx

from ...hls.contract.layout import permute, reshape
from ..builders.traced import Traced, argument
from ..builders.translation import Handler, Translation


def _einsum(translation: Translation, node: fx.Node) -> Traced:
    """A permutation of the axes of one operand (unpatchify)."""
    equation, operands = str(node.args[0]).replace(" ", ""), list(node.args[1])  # type: ignore[call-overload, arg-type]
    before, _, after = equation.partition("->")
    if len(operands) != 1 or sorted(before) != sorted(after) or len(set(before)) != len(before):
        raise ValueError(f"einsum {equation!r} is not supported, only permutations of axes")
    source = translation.operand(operands[0])
    return dataclasses.replace(source, layout=permute(source.layout, [before.index(axis) for axis in after]))


def _same(translation: Translation, node: fx.Node) -> Traced:
    return translation.traced[node.all_input_nodes[0]]


def _view(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0])
    return dataclasses.replace(source, layout=reshape(source.layout, tuple(node.meta["val"].shape)))


def _transpose(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0])
    order = list(range(len(source.layout)))
    first, second = node.args[1], node.args[2]
    order[first], order[second] = order[second], order[first]  # type: ignore[index]
    return dataclasses.replace(source, layout=permute(source.layout, order))


def _permute(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0])
    return dataclasses.replace(source, layout=permute(source.layout, node.args[1]))  # type: ignore[arg-type]


def _of_another_type(translation: Translation, node: fx.Node) -> Traced:
    """Floats of more or fewer bits: here values have bits of their own."""
    value = node.meta.get("val")
    if value is not None and not value.dtype.is_floating_point:
        raise ValueError(f"found an activation cut to {value.dtype}, expected floats")
    return _same(translation, node)


def _dropout(translation: Translation, node: fx.Node) -> Traced:
    if argument(node, 2, "train", False) and argument(node, 1, "p", 0.5):
        raise ValueError("found dropout that is active, expected a model in eval mode")
    return _same(translation, node)


LAYOUT_HANDLERS: dict[str, Handler] = {
    "aten.view": _view,
    "aten.reshape": _view,
    "aten._unsafe_view": _view,
    "aten.flatten.using_ints": _view,
    "aten.unflatten.int": _view,
    "aten.squeeze.dim": _view,
    "aten.unsqueeze": _view,
    "aten.transpose.int": _transpose,
    "aten.permute": _permute,
    "aten.einsum": _einsum,
    "aten.to.dtype": _of_another_type,
    "aten.to.dtype_layout": _of_another_type,
    "aten._to_copy": _of_another_type,
    "aten.contiguous": _same,
    "aten.clone": _same,
    "aten.alias": _same,
    "aten.dropout": _dropout,
    "aten._assert_tensor_metadata": _same,
}
