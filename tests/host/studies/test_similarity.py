"""Similarity statistics: of known codes by hand, of a model's run against its own counters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.studies.similarity import SOURCES, _Collector, measure, multiplications

CONFIG = default_config("zcu104")


def test_known_codes():
    build = GraphBuilder(0)
    graph = build.graph(build.convolution(build.input((1, 3, 2)), 5, (1, 2)))
    collector = _Collector(graph)
    collector.operations = [graph.nodes[0].name]
    collector.observe(0, (np.array([[[1, 2], [3, 4], [5, 6]]], np.int8),))
    collector.observe(0, (np.array([[[1, 2], [3, 4], [5, 36]]], np.int8),))
    found = collector.result()
    assert found.macs.tolist() == [1 * 2 * 5 * 2 * 2] == [multiplications(graph, graph.nodes[0])]
    assert found.reach["original"].item() == 35 and found.reach["temporal"].item() == 30
    assert found.classes["temporal"][0, 0].tolist() == [5 / 6, 0, 1 / 6]
    assert found.classes["original"][0, 0].tolist() == [0, 5 / 6, 1 / 6]
    assert found.classes["spatial"][0, 0].tolist() == [0, 5 / 6, 1 / 6], "1, 2, then 2, 2, then 2, 32"
    expected = (1 + 4 + 9 + 16 + 25 + 6 * 36) / np.sqrt(91 * (55 + 36**2))
    assert found.cosine["temporal"].item() == pytest.approx(expected)
    assert found.bit_operations("temporal") == pytest.approx(1 / 6)


def test_a_run_agrees_with_the_counters(tiny_model):
    """Zeros and 4-bit differences of a convolution that is encoded once are those that the device counts."""
    similarity = measure(tiny_model, CONFIG, batch=2)
    assert len(similarity.names) == len(tiny_model.graph.linear_nodes)
    assert all(np.allclose(similarity.classes[source].sum(axis=2), 1) for source in SOURCES)
    assert similarity.fractions("temporal")[0] > similarity.fractions("original")[0]
    record = Model(tiny_model, EmulatorDevice(CONFIG)).generate(2, None, 0, 2, "difference", progress=False).record
    checked = 0
    for index, name in enumerate(similarity.names):
        node = next(node for node in tiny_model.graph.linear_nodes if node.name == name)
        counters = record.counters[1:, record.names.index(name)]
        shape = tiny_model.graph.tensors[node.inputs[0]].shape
        if counters["elements"][0] != 2 * np.prod(shape):
            continue  # encoded again for several blocks, passes, or the second half of an attention product
        assert np.allclose(similarity.classes["temporal"][:, index, 0], counters["zeros"] / counters["elements"])
        assert np.allclose(similarity.classes["temporal"][:, index, 1], counters["narrow"] / counters["elements"])
        checked += 1
    assert checked > 5


def test_one_step_has_no_differences(tiny_model):
    short = dataclasses.replace(tiny_model, graph=dataclasses.replace(tiny_model.graph, group_of_step=(0,)))
    with pytest.raises(ValueError, match="found a schedule of 1 step, expected at least 2"):
        measure(short, CONFIG)
