"""How alike operands of linear operators are, from step to step and from pixel to pixel (Ditto, HPCA 2025, figures 3 to 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hls.artefact.model import QuantizedModel
from ...hls.contract.arithmetic import classify
from ...hls.contract.graph import Graph
from ...hls.contract.operators import LinearNode
from ...hls.machine.config import HardwareConfig
from ..devices.emulator import EmulatorDevice
from ..runtime.model import Model
from ..runtime.session import ORIGINAL

SOURCES = ("original", "temporal", "spatial")


@dataclass(frozen=True)
class Similarity:
    """How alike the first operands of linear operators are (in an attention product Q or P), per step with a previous one and
    operator that runs in it.

    ``macs`` int64 [operators]: products of one sample. Per source, float64: ``cosine`` [steps - 1, operators] of codes with
    those of the previous step, and of the previous pixel; ``reach`` [steps - 1, operators], largest minus smallest, in codes;
    ``classes`` [steps - 1, operators, 3]: fractions of zeros, of others that fit 4 bits, and of the rest. Sources of the last
    two: the codes themselves ("original"), their differences to the previous step ("temporal"), and to the previous pixel of
    the row, the first one to 0 ("spatial").
    """

    names: tuple[str, ...]
    macs: np.ndarray
    cosine: dict[str, np.ndarray]
    reach: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]

    def fractions(self, source: str) -> np.ndarray:
        """Fractions float64 [3] of zeros, of others that fit 4 bits, and of the rest, over all steps, weighted by
        multiplications."""
        return np.average(self.classes[source].mean(axis=0), axis=0, weights=self.macs)

    def bit_operations(self, source: str) -> float:
        """Bit operations per 8 x 8 multiplication, where zeros cost nothing and 4 bits half of it."""
        _, narrow, wide = self.fractions(source)
        return float(narrow / 2 + wide)

    def to_json(self) -> dict[str, Any]:
        """All of it per operator, with a value for every step after the first."""
        return {
            name: {
                "macs": int(self.macs[index]),
                "cosine": {source: values[:, index].tolist() for source, values in self.cosine.items()},
                "range": {source: values[:, index].tolist() for source, values in self.reach.items()},
                "classes": {source: values[:, index].tolist() for source, values in self.classes.items()},
            }
            for index, name in enumerate(self.names)
        }


def multiplications(graph: Graph, node: LinearNode) -> int:
    """Multiplications of a linear operator in one step of one sample."""
    return graph.tensors[node.name].size * node.products_of_a_sum([graph.tensors[name] for name in node.inputs])


def check_differences(graph: Graph) -> None:
    """ValueError for a schedule of one step."""
    if graph.steps < 2:
        raise ValueError(
            f"found a schedule of {graph.steps} step, expected at least 2: a difference needs a previous step"
        )


def measure(
    artefact: QuantizedModel, config: HardwareConfig, batch: int = 4, seed: int = 0, memory_mib: int | None = None
) -> Similarity:
    """Run the whole schedule on the emulator, ``batch`` samples of ``seed``, and look at every operand. ValueError for a schedule
    of one step."""
    graph = artefact.graph
    check_differences(graph)
    device = EmulatorDevice(config, counting=False)
    collector = _Collector(graph)
    device.observer = collector.observe
    model = Model(artefact, device, memory_mib=memory_mib)
    program = model.session(batch * artefact.branches, history=False).program
    collector.operations = [operation.first.name for operation in program.operations]
    model.denoise_as_calibrated(batch, seed, ORIGINAL)
    return collector.result()


class _Collector:
    """Collects what is asked of the operands, which it sees in the order of execution."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = {node.name: node for node in graph.linear_nodes}
        self.operations: list[str] = []
        self.previous: dict[str, np.ndarray] = {}
        self.rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in self.nodes}

    def observe(self, index: int, operands: tuple[np.ndarray, ...]) -> None:
        name = self.operations[index]
        height, width, channels = self.graph.tensors[self.nodes[name].inputs[0]].shape
        now = operands[0].reshape(-1, height, width, channels).astype(np.int16)
        if name in self.previous:
            before = self.previous[name]
            shifted = np.concatenate([np.zeros_like(now[:, :, :1]), now[:, :, :-1]], axis=2)
            row = [_cosine(now, before), _cosine(now[:, :, 1:], now[:, :, :-1])]
            for values in (now, now - before, now - shifted):
                row += [int(values.max()) - int(values.min()), *_fractions(values)]
            self.rows[name].append(tuple(row))
        self.previous[name] = now

    def result(self) -> Similarity:
        seen = {name: node for name, node in self.nodes.items() if self.rows[name]}  # not what is the same in all steps
        table = np.array([self.rows[name] for name in seen]).swapaxes(0, 1)  # [steps - 1, operators, values]
        return Similarity(
            tuple(seen),
            np.array([multiplications(self.graph, node) for node in seen.values()]),
            {"temporal": table[..., 0], "spatial": table[..., 1]},
            {source: table[..., 2 + 4 * index] for index, source in enumerate(SOURCES)},
            {source: table[..., 3 + 4 * index : 6 + 4 * index] for index, source in enumerate(SOURCES)},
        )


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of two arrays; 1 where there is nothing to compare, or nothing but zeros on both sides."""
    left, right = a.astype(np.float32).ravel(), b.astype(np.float32).ravel()
    norms = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    if norms == 0:
        return float(not left.any() and not right.any())
    return float(left @ right) / norms


def _fractions(values: np.ndarray) -> list[float]:
    counts = np.bincount(classify(values).ravel(), minlength=3)
    return list(counts / counts.sum())
