"""Weights of 4 bits on disk: half the bytes, the same numbers, and anything else refused in one line."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ditto_zynq.hls.artefact.folder import ArtefactError
from ditto_zynq.hls.artefact.model import load, save
from safetensors.numpy import load_file, save_file

from tests.hls.artefact.tampering import WEIGHTS, rehash


@pytest.fixture
def narrow_model(tiny_model):
    """``tiny_model`` with every other layer's weights cut to 4 bits."""
    chosen = {node.name for node in tiny_model.graph.linear_nodes[::2] if node.weight_table}
    nodes = tuple(
        dataclasses.replace(node, weight_bits=4) if node.name in chosen else node for node in tiny_model.graph.nodes
    )
    cut = {f"{name}.weight": tiny_model.tables[f"{name}.weight"] >> 4 for name in chosen}
    graph = dataclasses.replace(tiny_model.graph, nodes=nodes)
    return dataclasses.replace(tiny_model, graph=graph, tables={**tiny_model.tables, **cut}), sorted(cut)


def test_half_the_bytes_and_the_same_numbers(narrow_model, tmp_path):
    model, cut = narrow_model
    save(model, tmp_path / "model")
    found, stored = load(tmp_path / "model"), load_file(tmp_path / "model" / WEIGHTS)
    assert found.graph == model.graph and found.tables.keys() == model.tables.keys()
    for name, table in model.tables.items():
        assert found.tables[name].dtype == table.dtype and np.array_equal(found.tables[name], table), name
    for name in cut:
        channels = model.tables[name].shape[3]
        assert stored[name].dtype == np.uint8 and stored[name].shape[3] == -(-channels // 2)


@pytest.mark.parametrize(
    "change",
    [lambda raw: raw.view(np.int8), lambda raw: raw[..., :-1].copy(), lambda raw: raw.astype(np.int32)],
    ids=["signed", "short", "wide"],
)
def test_other_types_and_shapes_are_refused(narrow_model, tmp_path, change):
    model, cut = narrow_model
    save(model, tmp_path / "model")
    path = tmp_path / "model" / WEIGHTS
    stored = load_file(path)
    stored[cut[0]] = np.ascontiguousarray(change(stored[cut[0]]))
    save_file(stored, path)
    rehash(tmp_path / "model")
    with pytest.raises(ArtefactError, match=rf"{cut[0]}: found .*, expected uint8 .*, 2 weights in a byte"):
        load(tmp_path / "model")


def test_weights_beyond_four_bits_are_not_saved(narrow_model, tmp_path):
    model, cut = narrow_model
    tables = {**model.tables, cut[0]: np.full_like(model.tables[cut[0]], 8)}
    with pytest.raises(ValueError, match=rf"{cut[0]}: found 8, expected -8 to 7"):
        save(dataclasses.replace(model, tables=tables), tmp_path / "model")
    assert not (tmp_path / "model").exists()
