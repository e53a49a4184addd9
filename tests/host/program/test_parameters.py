"""What the host streams before each step."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.contract.references import Reference
from ditto_zynq.host.program.compiler import compile_program

from tests.host.runs import CONFIG


def test_parameter_blocks_follow_step_and_label():
    build, graph = random_unet(7)
    program = compile_program(graph, build.tables, CONFIG, 3)
    labels = np.array([0, 2, 1])
    node = next(
        node for node in graph.nodes if getattr(node, "conditional", False) and f"{node.name}.bias" in build.tables
    )
    table = build.tables[f"{node.name}.bias"]
    offset, stride = program.parameters.vectors[f"{node.name}.bias"], program.parameters.sample_stride
    for step in range(graph.steps):
        block = program.parameters.block(step, labels, Reference.ZERO, False)
        for sample, label in enumerate(labels):
            start = offset + sample * stride
            found = block[start : start + table[0, 0].nbytes].view(np.int32)
            assert np.array_equal(found, table[step, label])
