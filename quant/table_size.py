"""How much memory a model's tables per step and label will take, known once it is traced."""

from __future__ import annotations

import warnings

from ..hls.arithmetic import PrecisionWarning
from ..hls.graph import Convolution, Graph, GroupNorm, LayerNorm
from ..hls.limits import MOST_TABLE_BYTES

LARGE = 256 << 20
BYTES_OF_ROW = {
    "bias": 4,
    "gate": 4,
    "norm": 12,
}  # a channel: int32 biases and multipliers, int32 gains with int64 offsets


def table_bytes(graph: Graph) -> int:
    """At most, of all tables that have a row per step and label; some offsets fit half of what is counted."""
    rows, channels = graph.steps * graph.labels, 0
    for node in graph.nodes:
        width = graph.tensors[node.name].shape[2]
        if isinstance(node, Convolution):
            channels += width * (node.conditional * BYTES_OF_ROW["bias"] + node.gated * BYTES_OF_ROW["gate"])
        elif isinstance(node, (GroupNorm, LayerNorm)):
            channels += width * node.conditional * BYTES_OF_ROW["norm"]
    return rows * channels


def check_tables(graph: Graph) -> None:
    """ValueError, with how many labels would fit, for tables of more than MOST_TABLE_BYTES; a warning for large ones."""
    size = table_bytes(graph)
    said = f"the tables of {graph.steps} steps x {graph.labels} labels take {size / 2**20:,.0f} MiB"
    if size > MOST_TABLE_BYTES:
        fitting = MOST_TABLE_BYTES * graph.labels // size
        raise ValueError(
            f"{said}, expected at most {MOST_TABLE_BYTES >> 20:,}; quantize for at most {fitting} --labels, or fewer --steps"
        )
    if size > LARGE:
        warnings.warn(f"{said}", PrecisionWarning, stacklevel=2)
