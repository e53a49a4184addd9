"""Architectures without weights: the shapes are the real ones, and borrowed digits are counted as a run would count them."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators import Convolution
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import COUNTER_NAMES
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.compiler import lay_out
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.session import DIFFERENCE, ORIGINAL, SPATIAL
from ditto_zynq.host.studies import workload
from ditto_zynq.host.studies.architectures import ARCHITECTURES, build
from ditto_zynq.host.studies.compare import compare_architecture, table
from ditto_zynq.host.studies.similarity import multiplications
from ditto_zynq.host.studies.workload import Lender, counters_of_flows

from tests.conftest import SCHEDULER_CONFIG

CONFIG = default_config("zcu104")


@pytest.fixture(scope="module")
def cifar10_graph(cifar10_unet):
    """Traced by the quantizer from diffusers' model (its weights do not matter)."""
    from ditto_zynq.quant.calibrate.calibration import Options
    from ditto_zynq.quant.quantize import Schedule, quantize_denoiser

    options = Options(1, 0.0, False, 0)
    return quantize_denoiser(cifar10_unet, SCHEDULER_CONFIG, Schedule("ddim", 2, 0.0, 1), options).graph


def signature(graph) -> Counter:
    """Operators with their shapes."""
    fields = ("kernel", "stride", "padding", "heads", "groups")
    return Counter(
        (
            type(node).__name__,
            tuple(graph.tensors[name].shape for name in node.inputs),
            (graph.tensors[node.name].shape, graph.tensors[node.name].kind),
            tuple(getattr(node, field, None) for field in fields),
        )
        for node in graph.nodes
    )


def test_the_cifar10_graph_is_the_traced_one(cifar10_graph):
    assert signature(build("cifar10")[1]) == signature(cifar10_graph)


def test_stable_diffusion_has_its_known_size():
    """401.6 GMAC of a step are in the literature; 860 M parameters, of which time embeddings and norms are not here."""
    _, graph, tables = build("sd15")
    assert sum(multiplications(graph, node) for node in graph.linear_nodes) == pytest.approx(401.6e9, rel=1e-3)
    weights = sum(table.size for name, table in tables.items() if name.endswith(".weight"))
    assert 0.96 * 860e6 < weights < 860e6
    assert all(table.strides == (0,) * table.ndim for table in tables.values()), (
        "no memory for weights that are not there"
    )
    assert sum(isinstance(node, Convolution) for node in graph.nodes) > 200


def test_unknown_ones_are_refused():
    with pytest.raises(ValueError, match=f"found architecture 'sdxl', expected one of {', '.join(ARCHITECTURES)}"):
        build("sdxl")


def test_a_model_lends_itself_what_it_has(tiny_model):
    """Borrowed by the same graph, counters are those of the run's step."""
    step, batch = 2, workload.LENT_SAMPLES
    program = lay_out(tiny_model.graph, tiny_model.tables, CONFIG, batch)
    counters = counters_of_flows(program, Lender(tiny_model, CONFIG, (step,), seed=5))
    for flow in (ORIGINAL, SPATIAL, DIFFERENCE):
        record = Model(tiny_model, EmulatorDevice(CONFIG)).generate(batch, None, 5, batch, flow, progress=False).record
        for name in COUNTER_NAMES:
            assert record.counters[step][name].tolist() == counters[flow][step][name].tolist(), (flow, name)


def test_operands_are_stretched_by_mirrors_and_repeated_channels(tiny_model):
    lender = Lender(tiny_model, CONFIG, (1,))
    codes = np.arange(2 * 2 * 3 * 4, dtype=np.int8).reshape(2, 2, 3, 4)
    found = lender._stretched(codes, (3, 5, 10))
    assert found.shape == (2, 3, 5, 10)
    assert np.array_equal(found[:, 2], found[:, 1]) and np.array_equal(found[:, :, 3], found[:, :, 2])
    assert np.array_equal(found[:, :2, :3, :4], codes)
    assert sorted(found[0, 0, 0, 4:8]) == sorted(codes[0, 0, 0]), "all channels again before any a third time"
    assert np.array_equal(lender._stretched(codes, (1, 2, 3)), codes[:, :1, :2, :3])
    with pytest.raises(ValueError, match=r"found steps \(0,\) to borrow digits of, expected some of 1 to"):
        Lender(tiny_model, CONFIG, (0,))


def test_a_comparison_of_an_architecture(tiny_model):
    data = compare_architecture("cifar10", tiny_model, CONFIG, images=2)
    designs = {design["name"]: design for design in data["designs"]}
    assert data["kind"] == "modelled" and data["architecture"]["name"] == "cifar10" and data["steps"] == 50
    memory = {name: design["dram_bytes_per_image"] for name, design in designs.items()}
    assert memory["digits"] == memory["diffy"] < memory["ditto+"] < memory["difference"]
    macs = sum(multiplications(build("cifar10")[1], node) for node in build("cifar10")[1].linear_nodes)
    floor = 50 * macs / (designs["itc"]["cores"] * CONFIG.lanes * CONFIG.oc_tile)
    assert floor < designs["itc"]["cycles_per_image"] < 3 * floor
    assert "with the digits of a smaller model's run" in table(data) and math.isfinite(designs["ditto"]["speedup"])
