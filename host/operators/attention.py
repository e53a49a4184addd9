"""The two products of attention on the host: Q . K and P . V."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...hls.contract import operators
from ...hls.contract.arithmetic import requantize
from ...hls.contract.graph import Graph
from ...hls.contract.operators import MatMul
from ...hls.contract.references import LinearWork
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag, Opcode
from ...hls.machine.plan import ProductShape
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts, Product
from .attention_costs import AttentionProducts, counts_of_copying
from .attention_execution import AttentionDigits, MixExecution, ScoresExecution, split_heads
from .execution import Execution
from .linear import LinearOperator, Operands
from .operator import SampleView, Table
from .places import Places

LARGE_PRODUCT = 1 << 24  # probabilities of a sample, of which one head stands for all where digits are lent


class AttentionOperator(LinearOperator[MatMul, forms.Attention]):
    """A product of attention."""

    opcodes = (Opcode.SCORES, Opcode.MIX)
    form = forms.Attention

    def execution_of(self, opcode: Opcode) -> type[Execution[Any]]:
        return ScoresExecution if opcode == Opcode.SCORES else MixExecution

    def opcode(self, node: MatMul) -> Opcode:
        return Opcode.SCORES if node.scores else Opcode.MIX

    def flags(self, node: MatMul, constant: frozenset[str]) -> Flag:
        interleaved = Flag.INTERLEAVED if node.interleaved else Flag(0)
        return interleaved | (Flag.CONSTANT_OTHER if node.inputs[1] in constant else Flag(0))

    def fields(self, node: MatMul, places: Places) -> dict[str, int]:
        tensors = places.graph.tensors
        left, right, result = (tensors[name].shape for name in (*node.inputs, node.name))
        of_rows = result if node.scores else left
        image = left if node.scores else result
        other, plan = places.tensor(tensors[node.inputs[1]]), places.plans[node.name][1]
        state_other, span = places.kept_operand(node, 1)
        return super().fields(node, places) | {
            "windows": node.windows,
            "heads": node.heads,
            "instances": of_rows[0],
            "queries": of_rows[1],
            "keys": of_rows[2],
            "depth": right[2],
            "image_height": image[0],
            "image_width": image[1],
            "other": other.offset,
            "other_pitch": other.pitch,
            "state_other": state_other,
            "state_other_span": span,
            "other_block_rows": plan.block_rows,
            "other_chunk_channels": plan.chunk_channels,
            "other_pass_tiles": plan.pass_tiles,
        }

    def scalars(self, node: MatMul, table: Table) -> dict[str, np.ndarray]:
        return {"shift": table(node, "shift"), "multiplier0": table(node, "multiplier")}

    def product_shapes(self, node: MatMul, graph: Graph, samples: int, dense: bool) -> tuple[ProductShape, ...]:
        source, result = graph.tensors[node.inputs[0]].shape, graph.tensors[node.name].shape
        if node.scores:
            queries, keys, depth = result[1], result[2], source[2] // node.heads
            return (
                ProductShape(1, queries, 1, depth, queries, 1, keys, staged=True),
                ProductShape(1, keys, 1, depth, keys, 1, queries, staged=True),
            )
        queries, keys, depth = source[1], source[2], result[2] // node.heads
        return (
            ProductShape(1, queries, 1, keys, queries, 1, depth),
            ProductShape(1, depth, 1, keys, depth, 1, queries, staged=True, gathered=True),
        )

    def instances(self, node: MatMul, samples: int) -> int:
        return samples * node.windows * node.heads

    def products(self, form: forms.Attention, scalars: np.void) -> list[Product]:
        return AttentionProducts(form, scalars).all()

    def keep_other_counts(self, config: HardwareConfig, form: forms.Attention, scalars: np.void) -> Counts | None:
        return None if form.has(Flag.CONSTANT_OTHER) else counts_of_copying(config, form, scalars)

    def as_multiplied(self, node: MatMul, operands: Operands, heads: int | None) -> Operands:
        """Rows [B * heads, rows, inner] of the first operand, and columns [B * heads, inner, columns] of the second one."""
        left, right = operands
        heads = node.heads if heads is None else heads
        columns = split_heads(right.reshape(len(right), -1, right.shape[3]), heads)  # [B, heads, tokens, depth]
        rows = left
        if node.scores:
            rows = split_heads(left.reshape(len(left), -1, left.shape[3]), heads)
            columns = columns.swapaxes(2, 3)
        return tuple(np.ascontiguousarray(x).reshape(-1, *x.shape[2:]) for x in (rows, columns))

    def lent_shape(self, node: MatMul, graph: Graph, position: int, heads: int | None) -> tuple[int, int, int]:
        shape = super().lent_shape(node, graph, position, heads)
        if heads is None:
            return shape
        if position == 0 and not node.scores:
            return heads, *shape[1:]
        return *shape[:2], shape[2] // node.heads * heads

    def lent_instances(self, node: MatMul, samples: int) -> int:
        return samples * node.heads

    def lent_heads(self, node: MatMul, graph: Graph) -> int:
        probabilities = graph.tensors[node.name if node.scores else node.inputs[0]].size
        return 1 if probabilities > LARGE_PRODUCT else node.heads

    def encoded(
        self, form: forms.Attention, config: HardwareConfig, now: Operands, before: Operands
    ) -> LinearWork[list[Encoded]]:
        left, right = now
        right_before = None if form.has(Flag.CONSTANT_OTHER) else before[1]
        return AttentionDigits(form, config, left, right, lambda: (before[0], right_before))

    def alike(self, node: MatMul) -> tuple[bool, ...]:
        return False, node.scores

    def sample(self, view: SampleView, node: MatMul) -> tuple[np.ndarray, np.ndarray]:
        """The dot products of one query."""
        windows = (node.heads, node.windows, node.interleaved)
        instance = int(view.random.integers(node.heads * node.windows))
        right = _instance(view.inputs[1], instance, *windows)
        left = _instance(view.inputs[0], instance, *windows) if node.scores else view.inputs[0][instance]
        query = int(view.random.integers(len(left)))
        sums = left[query].astype(np.int64) @ (right.T if node.scores else right).astype(np.int64)
        found = view.result[instance, query] if node.scores else _instance(view.result, instance, *windows)[query]
        multiplier = view.table(node, "multiplier")
        if not node.scores:
            multiplier = operators.softmax.row_multipliers(left[query], int(multiplier))
        limits = view.graph.tensors[node.name].limits
        return found.astype(np.int64), requantize(sums, multiplier, view.table(node, "shift"), limits)


def _instance(x: np.ndarray, instance: int, heads: int, windows: int, interleaved: bool) -> np.ndarray:
    """[H, W, C] -> [tokens, depth] of one window and head, without copying the others."""
    window, head = divmod(instance, heads)
    depth = x.shape[2] // heads
    tokens = x.reshape(-1, x.shape[2])[:, head * depth : (head + 1) * depth]
    count = len(tokens) // windows
    return tokens[window::windows] if interleaved else tokens[window * count : (window + 1) * count]


OPERATORS = {MatMul: AttentionOperator()}
