"""Random graphs have every operator and only legal tables, and the same seed makes the same one."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.contract.operators import OPERATORS
from ditto_zynq.hls.contract.operators.activation import Activation
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.contract.table_rules import check_tables

SEEDS = range(14)


def test_a_seed_makes_one_graph():
    (one, graph), (again, same), (other, _) = (random_unet(seed) for seed in (5, 5, 6))
    assert graph == same and all(np.array_equal(table, again.tables[name]) for name, table in one.tables.items())
    assert one.tables.keys() != other.tables.keys() or any(
        not np.array_equal(table, other.tables[name]) for name, table in one.tables.items()
    )


def test_every_operator_is_in_some_graph_and_all_tables_are_legal():
    found = set()
    for seed in SEEDS:
        build, graph = random_unet(seed)
        check_tables(graph, build.tables)
        found |= {type(node) for node in graph.nodes}
    # that it has activations by tables and without is enough: tests that need one of them ask for it
    assert found >= {each for each in OPERATORS.values() if not issubclass(each, Activation)}
    assert {bool(each.fraction_bits) for each in found if issubclass(each, Activation)} == {True, False}


def test_codes_follow_each_other_in_their_range():
    build = GraphBuilder(0)
    build.input((4, 5, 6))
    for _ in range(10):
        codes = build.codes(2)
        after = build.next_codes(codes)
        assert codes.shape == after.shape == (2, 4, 5, 6) and codes.dtype == after.dtype == np.int8


def test_a_node_that_is_held_is_the_same_in_every_step_group():
    build = GraphBuilder(0, groups=3)
    node = build.convolution(build.input((1, 1, 8)), 8)
    tables = {name: table.copy() for name, table in build.tables.items()}
    build.hold(node)
    assert np.any(tables[f"{node}.bias"][1] != tables[f"{node}.bias"][0])
    assert all(np.array_equal(row, tables[f"{node}.bias"][0]) for row in build.tables[f"{node}.bias"])
    assert np.array_equal(build.tables[f"{node}.weight"], tables[f"{node}.weight"])
