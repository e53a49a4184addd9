"""Concatenation is PyTorch's along channels, of parts of one kind and of one height and width."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.operators import Concat
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.contract.tensor import CODE, VALUE, Tensor


def test_parts_follow_each_other_in_the_channels():
    build = GraphBuilder(0)
    source = build.input((2, 3, 4))
    parts = [build.convolution(source, channels) for channels in (5, 1, 3)]
    joined = build.concat(*parts)
    tensors = Interpreter(build.graph(joined), build.tables).step(build.codes(2), 0)
    expected = torch.cat([torch.from_numpy(tensors[name]) for name in parts], dim=3)
    assert build.tensors[joined].shape == (2, 3, 9) and np.array_equal(tensors[joined], expected.numpy())


def test_parts_that_do_not_fit_are_refused():
    node = Concat("joined", "m", ("a", "b"))
    wide, tall = Tensor("a", VALUE, (2, 3, 4)), Tensor("b", VALUE, (3, 2, 4))
    with pytest.raises(ValueError, match=r"joined: found shapes .*expected equal heights and widths"):
        node.check([wide, tall], Tensor("joined", VALUE, (2, 3, 8)))
    with pytest.raises(ValueError, match=r"joined: found .*expected one kind"):
        node.check([wide, Tensor("b", CODE, (2, 3, 4))], Tensor("joined", VALUE, (2, 3, 8)))
    with pytest.raises(ValueError, match="found 0 inputs of a Concat, expected at least 1"):
        node.check([], Tensor("joined", VALUE, (2, 3, 8)))
