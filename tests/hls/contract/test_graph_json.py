"""Graphs as JSON come back, and broken ones are refused."""

from __future__ import annotations

import json

import pytest
from ditto_zynq.hls.contract.graph_json import graph_from_json, graph_to_json
from ditto_zynq.hls.contract.random_graphs import random_unet


@pytest.mark.parametrize("seed", range(5))
def test_json_round_trip(seed):
    _, graph = random_unet(seed)
    assert graph_from_json(json.loads(json.dumps(graph_to_json(graph)))) == graph


def edited(change):
    data = json.loads(json.dumps(graph_to_json(random_unet(0)[1])))
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["nodes"][0].update(op="Fold"), "found operator 'Fold'.*expected one of Convolution"),
        (lambda d: d["nodes"][0].update(inputs=["nowhere"]), "'nowhere' is not in the graph's list of tensors"),
        (lambda d: d["nodes"].reverse(), "is used before it is computed"),
        (lambda d: d["nodes"].append(d["nodes"][0]), "computed twice"),
        (lambda d: d.update(output="nothing"), "'nothing' is never computed"),
        (lambda d: d["tensors"][1].update(shape=[1, 2, 3]), "found output shape"),
        (lambda d: d["tensors"][1].update(kind="code"), "expected values"),
        (lambda d: d.update(group_of_step=[0, 2]), "expected 0 to 2, all used"),
        (lambda d: d.pop("output"), "found no output, expected tensors, nodes, input, output, group_of_step"),
        (lambda d: d.update(group_of_step=list(range(0, 2000, 2))), r"found step groups \[0, 2, .*\.\.\.\], expected"),
        (lambda d: concatenation(d).update(inputs=[]), "found 0 inputs of a Concat, expected at least 1"),
        (lambda d: d["nodes"][0].update(surprise=1), "found .surprise., expected only name, module, inputs"),
    ],
)
def test_broken_graphs_are_refused(change, message):
    with pytest.raises(ValueError, match=message) as error:
        graph_from_json(edited(change))
    assert len(str(error.value)) < 400


def concatenation(data):
    return next(node for node in data["nodes"] if node["op"] == "Concat")
