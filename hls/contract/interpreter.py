"""Runs an integer graph by the contract, operator by operator, in plain NumPy int64: all other implementations are held to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .arithmetic import ACCUMULATOR_RANGE, saturate
from .graph import Graph
from .operators import LinearNode, Node, StepTables
from .operators.node import Operands
from .references import LinearWork, Reference, kind_of
from .tensor import Tables, Tensor


@dataclass
class History:
    """What temporal differences keep between steps: operand codes and accumulators of every linear node."""

    operands: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    accumulators: dict[str, np.ndarray] = field(default_factory=dict)


class Interpreter:
    """Runs an integer graph step by step. One instance holds the history of one batch."""

    def __init__(self, graph: Graph, tables: Tables):
        self.graph = graph
        self.tables = tables
        self.history = History()

    def reset(self) -> None:
        """Forget the history: the next step has no previous one."""
        self.history = History()

    def step(
        self,
        codes: np.ndarray,
        step: int,
        labels: np.ndarray | None = None,
        references: Mapping[str, Reference] | Reference = Reference.ZERO,
        context: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """One denoising step: input codes int8 [B, H, W, C] -> every tensor of the graph, by name.

        ``labels`` int [B] (default: zeros) selects rows of conditional tables. ``references`` says, per linear node (default:
        zero) or for all, what its operand is subtracted from. ValueError for a previous step that a node has not run.
        ``context``: codes of the graph's second input, if it has one.
        """
        labels = np.zeros(len(codes), np.int64) if labels is None else np.asarray(labels)
        tensors = {self.graph.input: np.asarray(codes, np.int64)}
        if self.graph.context is not None:
            tensors[self.graph.context] = np.asarray(context, np.int64)
        for name in self.graph.constants:
            value = np.asarray(self.tables[f"{name}.value"], np.int64)
            tensors[name] = np.broadcast_to(value, (len(codes), *value.shape))
        for node in self.graph.nodes:
            chosen = references if isinstance(references, Reference) else references.get(node.name, Reference.ZERO)
            operands = tuple(tensors[name] for name in node.inputs)
            tensors[node.name] = self._run(node, operands, step, labels, chosen)
        return tensors

    def _run(self, node: Node, operands: Operands, step: int, labels: np.ndarray, chosen: Reference) -> np.ndarray:
        tables = StepTables(self.tables, node.name, step, self.graph.group_of_step[step], labels)
        output = self.graph.tensors[node.name]
        if not isinstance(node, LinearNode):
            return node.run(operands, tables, output)
        sums = self._accumulate(node, operands, tables, chosen)
        return node.finish(sums, operands, tables, output)

    def _accumulate(self, node: LinearNode, operands: Operands, tables: StepTables, chosen: Reference) -> np.ndarray:
        """``acc = acc_ref + W . (q - q_ref)``."""
        work = _Sums(node, operands, tables, self.graph.tensors[node.name], self.history)
        try:
            accumulators = kind_of(chosen).of(work)
        except ValueError as error:
            raise ValueError(f"{node.name}: {error}") from error
        if np.any(accumulators != saturate(accumulators, ACCUMULATOR_RANGE)):
            raise OverflowError(f"{node.name}: an accumulator left int32; quantize the model again")
        self.history.operands[node.name] = operands
        self.history.accumulators[node.name] = accumulators
        return accumulators


@dataclass(frozen=True)
class _Sums(LinearWork[np.ndarray]):
    """The sums of a linear operator, [B, *shape of the result]."""

    node: LinearNode
    operands: Operands
    tables: StepTables
    output: Tensor
    history: History

    def from_zero(self) -> np.ndarray:
        return self.node.products(self.operands, self.tables, self.output)

    def from_previous_step(self) -> np.ndarray:
        before = self.history.operands.get(self.node.name)
        if before is None:
            raise ValueError("there is no previous step to refer to; run a step with another reference first")
        kept = self.history.accumulators[self.node.name]
        return kept + self.node.products_of_differences(self.operands, before, self.tables, self.output)

    def from_neighbour(self) -> np.ndarray:
        return self.node.products_in_chains(self.operands, self.tables, self.output)
