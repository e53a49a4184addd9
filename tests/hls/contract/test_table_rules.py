"""A graph's tables and scales are all there, are all known, and are as its operators need them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.contract.table_rules import check_scales, check_tables, table_rules


def test_rules_are_of_every_table_and_of_constants():
    build = GraphBuilder(0, groups=3, steps=7, labels=5)
    value = build.convolution(build.input((2, 3, 4)), 6, (1, 2), conditional=True)
    constant = build.constant(build.tensors[value].shape)
    graph = build.graph(build.add(value, constant))
    shapes = {name: rule.shape for name, rule in table_rules(graph).items()}
    assert shapes == {name: table.shape for name, table in build.tables.items()}
    assert shapes[f"{value}.weight"] == (6, 1, 2, 4) and shapes[f"{value}.bias"] == (7, 5, 6)
    assert shapes[f"{constant}.value"] == (2, 2, 6) and shapes[f"{graph.output}.multiplier"] == (3, 2)


def test_tables_that_are_missing_unknown_or_of_others_are_refused():
    build, graph = random_unet(3)
    check_tables(graph, build.tables)
    name = sorted(build.tables)[0]
    with pytest.raises(ValueError, match=f"found no table {name}"):
        check_tables(graph, {other: table for other, table in build.tables.items() if other != name})
    with pytest.raises(ValueError, match=r"found a table .*nobody.*, which no part of the graph has"):
        check_tables(graph, {**build.tables, "nobody.bias": build.tables[name]})
    with pytest.raises(ValueError, match=f"table {name}: found int64"):
        check_tables(graph, {**build.tables, name: build.tables[name].astype(np.int64)})


def test_scales_are_positive_one_per_tensor_and_step_group():
    _, graph = random_unet(3)
    scales = {name: np.full(graph.groups, 0.1) for name in graph.tensors}
    check_scales(graph, scales)
    for wrong in (0.0, -1.0, np.nan, 1e31):
        with pytest.raises(ValueError, match=re.escape(f"scale of {graph.input}: found {wrong}")):
            check_scales(graph, {**scales, graph.input: np.full(graph.groups, wrong)})
    with pytest.raises(ValueError, match=f"scale of {graph.output}: found float64"):
        check_scales(graph, {**scales, graph.output: np.full(graph.groups + 1, 0.1)})
    with pytest.raises(ValueError, match="found a scale of 'nobody'"):
        check_scales(graph, {**scales, "nobody": np.full(graph.groups, 0.1)})


def test_a_norm_of_more_pixels_than_its_sums_hold_has_no_legal_table():
    build = GraphBuilder(0)
    graph = build.graph(build.group_norm(build.convolution(build.input((257, 256, 1)), 1), 1))
    with pytest.raises(ValueError, match="found 65792 elements in a norm group"):
        table_rules(graph)
