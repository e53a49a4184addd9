"""Descriptors are refused by what they say of themselves and of each other: room, weights of their own, work that ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ditto_zynq.hls.common.limits import MOST_DESCRIPTORS, MOST_PRODUCTS, MOST_PRODUCTS_OF_ALL
from ditto_zynq.hls.contract.graph import Graph
from ditto_zynq.hls.contract.operators import Convolution
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.machine import descriptor_rules, isa
from ditto_zynq.hls.machine.descriptor_rules import LEGAL_FLAGS, REQUIRED_FLAGS, check_count, check_descriptors
from ditto_zynq.hls.machine.isa import Opcode, Region
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.studies.architectures import build as build_architecture

from tests.host.devices.hostile import CONFIG


@pytest.fixture(scope="module")
def program():
    build, graph = random_unet(0)
    return compile_program(graph, build.tables, CONFIG, 1)


def test_weights_that_many_share(program):
    """As many copies of the weights would be unpacked as there are convolutions."""
    convolutions = np.flatnonzero(program.descriptors["opcode"] == Opcode.CONVOLUTION)
    records = np.tile(program.descriptors[convolutions[:1]], 40)
    records["weights"] = records["channel_groups"] = 0
    records["node"] = records["leader"] = records["layer"] = np.arange(40)
    records["scalars"] = isa.SCALARS.itemsize * np.arange(40)
    sizes = dict.fromkeys(Region, 1 << 20) | {Region.WEIGHTS: 1 << 12}
    assert check_descriptors(CONFIG, records, sizes).reason == "weights of its own"


def products_of(graph: Graph) -> list[int]:
    """Of every linear operator, of a sample."""
    found = []
    for node in graph.linear_nodes:
        depth, size = graph.tensors[node.inputs[0]].shape[2], graph.tensors[node.name].size
        is_convolution = isinstance(node, Convolution)
        found.append(
            size * math.prod(node.kernel) * depth
            if is_convolution
            else size * depth // (node.heads if node.scores else 1)
        )
    return found


def test_programs_that_hardly_end(monkeypatch):
    """Products are bounded, of an operation and of a program; Stable Diffusion's and DiT-XL's are far below."""
    build, graph = random_unet(8)
    program, products = compile_program(graph, build.tables, CONFIG, 3), [3 * each for each in products_of(graph)]

    def refusal(name: str, limit: int) -> str | None:
        with monkeypatch.context() as patch:
            patch.setattr(descriptor_rules, name, limit)
            found = check_descriptors(CONFIG, program.descriptors, program.sizes)
        return None if found is None else found.reason

    assert refusal("MOST_PRODUCTS", max(products)) is refusal("MOST_PRODUCTS_OF_ALL", sum(products)) is None
    assert refusal("MOST_PRODUCTS", max(products) // 3 - 1) == f"at most {max(products) // 3 - 1} products"
    assert refusal("MOST_PRODUCTS_OF_ALL", sum(products) - 1) == f"a program of at most {sum(products) - 1} products"
    stable_diffusion = products_of(build_architecture("sd15")[1])
    assert 16 * max(stable_diffusion) < MOST_PRODUCTS and 2 * 16 * sum(stable_diffusion) < MOST_PRODUCTS_OF_ALL


def test_records_that_have_no_room_are_refused_before_they_are_read():
    sizes = {Region.PROGRAM: 128 * 10, Region.PARAMETERS: 64 * 9 + 63, Region.COUNTERS: 192 * 20}
    assert check_count(9, sizes) is None
    found = check_count(10, sizes)
    assert (found.index, found.reason) == (9, "PARAMETERS has room for all records")
    assert check_count(11, sizes).reason == "PROGRAM has room for all records"
    many = check_count(MOST_DESCRIPTORS + 1, dict.fromkeys(Region, 1 << 30))
    assert (many.index, many.reason) == (MOST_DESCRIPTORS, f"at most {MOST_DESCRIPTORS} descriptors")


def test_every_opcode_has_flags_that_it_may_and_some_that_it_must_have():
    assert set(LEGAL_FLAGS) == set(Opcode)
    assert all(LEGAL_FLAGS[opcode] & flags == flags for opcode, flags in REQUIRED_FLAGS.items())
