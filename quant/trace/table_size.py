"""How much memory a model's tables per step and label will take, known once it is traced."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from ...hls.common.limits import MOST_TABLE_BYTES
from ...hls.common.notices import SizeWarning
from ...hls.contract.operators import Node
from ...hls.contract.tensor import Tensor
from ..operators import CONDITIONED

LARGE = 16 << 20  # from which on the size is said


def table_bytes(nodes: Iterable[Node], tensors: Mapping[str, Tensor], steps: int, labels: int) -> int:
    """How many bytes all tables that have a row per step and label take, at most."""
    of_row = sum(
        tensors[node.name].shape[2] * CONDITIONED[type(node)].row_bytes(node)
        for node in nodes
        if type(node) in CONDITIONED
    )
    return steps * labels * of_row


def check_table_size(size: int, steps: int, labels: int, weights: int) -> None:
    """ValueError, with how many labels would fit, for tables of ``size`` > MOST_TABLE_BYTES; a SizeWarning for large ones.

    ``weights``: bytes of the float model.
    """
    said = f"the tables of {steps} steps x {labels} labels take {size / 2**20:,.0f} MiB"
    if size > MOST_TABLE_BYTES:
        fitting = MOST_TABLE_BYTES * labels // size
        advice = f"at most {fitting} --labels, or fewer --steps" if fitting else "fewer --steps"
        raise ValueError(f"{said}, expected at most {MOST_TABLE_BYTES >> 20:,}; quantize for {advice}")
    if size > LARGE:
        fewer = "fewer --labels or --steps" if labels > 1 else "fewer --steps"
        warnings.warn(
            f"{said} of memory and disk, the float model's weights {weights / 2**20:,.0f} MiB; {fewer} take less",
            SizeWarning,
            stacklevel=2,
        )
