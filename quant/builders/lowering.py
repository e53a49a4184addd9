"""The integer tables of a calibrated graph in the making (``hls/README.md``, "The number contract")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...hls.contract.arithmetic import to_multiplier
from ...hls.contract.graph import Graph
from ...hls.contract.operators import Node
from ..common.unsupported import UnsupportedOperator
from .layers import Layers


@dataclass(frozen=True)
class Lowering:
    """From ``parameters`` and ``layers`` in floating point to ``tables``, see :mod:`ditto_zynq.hls.contract.graph`.

    ``scales[tensor]`` float64 [groups] is the real value of one step; ``unchanging`` are the tensors that are the same in every
    step of a run.
    """

    graph: Graph
    scales: Mapping[str, np.ndarray]
    parameters: Mapping[str, torch.Tensor]
    layers: Layers
    unchanging: frozenset[str]
    tables: dict[str, np.ndarray] = field(default_factory=dict)

    def parameter(self, node: Node, name: str) -> np.ndarray:
        """float64, of the parameter's shape."""
        return self.parameters[f"{node.name}.{name}"].double().numpy()

    def put(self, node: Node, name: str, values: np.ndarray, dtype: type) -> None:
        """Whole numbers ``values`` as a table of integers; UnsupportedOperator where these do not hold them."""
        limits: Any = np.iinfo(dtype)
        if np.any(values < limits.min) or np.any(values > limits.max):
            raise UnsupportedOperator(
                f"{node.name}: {name} reaches {np.max(np.abs(values)):g}, more than {limits.dtype} holds"
            )
        self.tables[f"{node.name}.{name}"] = np.ascontiguousarray(values.astype(dtype))

    def put_multiplier(self, node: Node, factors: np.ndarray) -> None:
        """``factors`` [groups, ...] as int32 mantissas with one shift per group."""
        rows = [to_multiplier(row) for row in factors]
        self.put(node, "multiplier", np.stack([mantissa for mantissa, _ in rows]), np.int32)
        self.put(node, "shift", np.array([shift for _, shift in rows]), np.int32)

    def rows(self, per_group: np.ndarray, conditional: bool) -> np.ndarray:
        """A [groups, ...] array in the rows of a table: [groups, 1 or C], or [steps, 1, 1 or C] of a conditional one."""
        per_group = per_group.reshape(self.graph.groups, -1)
        return per_group[list(self.graph.group_of_step)][:, None] if conditional else per_group
