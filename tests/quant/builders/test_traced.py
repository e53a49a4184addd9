"""What is built has names of its own, and aten nodes are known by what torch says of them."""

from __future__ import annotations

import torch
from ditto_zynq.hls.contract.operators import Convolution
from ditto_zynq.hls.contract.tensor import CODE, VALUE, Tensor
from ditto_zynq.quant.builders.traced import Builder, argument, module_path, operator_name, pair
from torch import fx, nn


def test_operators_of_one_name_are_told_apart():
    builder = Builder(tensors={"sample": Tensor("sample", CODE, (9, 8, 3))})
    node = Convolution("conv", "module", ("sample",), (3, 3), (2, 1), (1, 0, 1, 1))
    names = [builder.add(node, VALUE, channels) for channels in (5, 6, 7)]
    assert len(set(names)) == 3 and names[0] == "conv"
    for name, channels in zip(names, (5, 6, 7), strict=True):
        padded = nn.functional.pad(torch.zeros(1, 3, 9, 8), (1, 1, 1, 0))
        _, depth, height, width = nn.Conv2d(3, channels, 3, stride=(2, 1))(padded).shape
        assert builder.tensors[name] == Tensor(name, VALUE, (height, width, depth))
        assert builder.nodes[name].name == name and builder.nodes[name].module == "module"


def test_constants_of_one_module_and_of_none():
    builder = Builder()
    values = torch.randn(3, 4, 5, 6)
    names = [builder.add_constant(path, value) for path, value in zip(("a.b", "a.b", ""), values, strict=True)]
    assert len(set(names)) == 3 and names == builder.constants and not names[2].startswith(".")
    for name, value in zip(names, values, strict=True):
        assert builder.tensors[name].shape == (4, 5, 6) and torch.equal(builder.parameters[f"{name}.value"], value)


def test_nodes_of_an_exported_module():
    inner = nn.ModuleDict({"block": nn.Sequential(nn.SiLU(), nn.Conv2d(3, 4, 3))})

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner["block"](x).double()

    exported = torch.export.export(Outer(), (torch.zeros(1, 3, 6, 6),)).module()
    places = {operator_name(node): module_path(node) for node in exported.graph.nodes if node.op == "call_function"}
    assert places["aten.silu"] == "inner.block.0" and places["aten.conv2d"] == "inner.block.1"
    assert places["aten.to.dtype"] == ""


def test_arguments_by_position_and_by_name():
    graph = fx.Graph()
    x, pool = graph.placeholder("x"), torch.ops.aten.avg_pool2d.default
    for node in (graph.call_function(pool, (x, 3, [2, 1])), graph.call_function(pool, (x, 3), {"stride": [2, 1]})):
        assert pair(node.args[1]) == (3, 3) and pair(argument(node, 2, "stride", 5)) == (2, 1)
        assert argument(node, 3, "padding", 7) == 7
    assert pair((4,)) == (4, 4)
