"""The size of tables is known before they are made."""

from __future__ import annotations

import dataclasses

import pytest
from ditto_zynq.hls.arithmetic import PrecisionWarning
from ditto_zynq.hls.graph import Graph
from ditto_zynq.quant.table_size import check_tables, table_bytes


def with_labels(graph: Graph, labels: int) -> Graph:
    return dataclasses.replace(graph, labels=labels)


def test_the_estimate_is_that_of_the_tables(tiny_model):
    rows = tiny_model.graph.steps, tiny_model.graph.labels
    made = sum(table.nbytes for table in tiny_model.tables.values() if table.shape[:2] == rows and table.ndim == 3)
    assert made > 0 and made <= table_bytes(tiny_model.graph) <= 1.5 * made


def test_large_tables_are_said_and_too_large_ones_refused(tiny_model):
    a_label = table_bytes(with_labels(tiny_model.graph, 1))
    check_tables(tiny_model.graph)
    with pytest.warns(PrecisionWarning, match=r"the tables of 6 steps x \d+ labels take 25[67] MiB"):
        check_tables(with_labels(tiny_model.graph, (256 << 20) // a_label + 1))
    most = (4 << 30) // a_label
    with pytest.raises(ValueError, match=f"expected at most 4,096; quantize for at most {most} --labels"):
        check_tables(with_labels(tiny_model.graph, most + 1))
