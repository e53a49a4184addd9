"""Known U-Nets' shapes are those of diffusers' models."""

from __future__ import annotations

from collections import Counter

import pytest
from ditto_zynq.hls.contract.operators import Convolution
from ditto_zynq.host.studies.architectures import ARCHITECTURES, build
from ditto_zynq.host.studies.similarity import multiplications

from tests.conftest import SCHEDULER_CONFIG


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
