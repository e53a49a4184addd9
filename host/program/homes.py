"""In which buffer each tensor lies: the parts of a concatenation lie side by side in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...hls.contract.graph import Graph


@dataclass(frozen=True)
class Homes:
    """For each tensor in memory its buffer and first channel there, and the channels of each buffer."""

    buffers: Mapping[str, tuple[str, int]]
    widths: Mapping[str, int]

    def pitch(self, name: str) -> int:
        """Elements from pixel to pixel."""
        return self.widths[self.buffers[name][0]]


def find_homes(graph: Graph, results: Iterable[str]) -> Homes:
    """Homes of what enters a step and of the operations' ``results``. Parts of a concatenation become slices of its buffer."""
    stored = {graph.input, *results}
    stored |= {*graph.constants, *((graph.context,) if graph.context else ())}
    home = {name: (name, 0) for name in stored}
    widths = {name: graph.tensors[name].shape[2] for name in stored}
    for node in graph.nodes:
        if not node.is_stored:
            home[node.name] = (node.name, 0)
            widths[node.name] = graph.tensors[node.name].shape[2]
            channel = 0
            for source in node.inputs:
                if home[source] != (source, 0):
                    raise ValueError(f"{node.name}: {source} is part of two concatenations, which is not supported")
                home[source] = (node.name, channel)
                channel += graph.tensors[source].shape[2]
    return Homes(home, widths)
