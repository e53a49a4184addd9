"""Views and permutations move nothing: the graph has no operator of them, and its output is PyTorch's."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.hls.contract.operators import Convolution
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from torch import nn

from tests.quant.between import Between, assert_traced_as_it_is, traced

MOVES = {  # of [B, 4, 6, 4]
    "reshape": lambda x: x.reshape(-1, 2, 2, 3, 8),
    "flatten": lambda x: x.flatten(1, 2).unflatten(1, (2, 12)),
    "transpose": lambda x: x.transpose(1, -1).transpose(2, 3),
    "permute": lambda x: x.permute(0, -1, 1, 2),
    "squeeze": lambda x: x.unsqueeze(2).transpose(1, 2).squeeze(1).unsqueeze(-1),
    "unpatchify": lambda x: torch.einsum("bhwpqc->bchpwq", x.permute(0, 2, 3, 1).reshape(-1, 6, 4, 2, 2, 1)).flatten(2),
    "copies": lambda x: nn.functional.dropout(x.permute(0, 2, 3, 1).contiguous().clone(), training=False).float(),
}


@pytest.mark.parametrize("name", MOVES)
def test_what_moves_nothing(name):
    nodes = assert_traced_as_it_is(Between(MOVES[name], channels=0)).graph.nodes
    assert [type(node) for node in nodes] == [Convolution]


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (lambda x: torch.einsum("bchw,bdhw->bcdhw", x, x), "only permutations of axes"),
        (lambda x: torch.einsum("bchw->bhw", x), "only permutations of axes"),
        (lambda x: x.transpose(1, 2).reshape(-1, 16, 6), "cuts an axis unevenly"),
        (lambda x: x.to(torch.int32).float(), "found an activation cut to torch.int32, expected floats"),
        (lambda x: nn.functional.dropout(x, training=True), "found dropout that is active"),
    ],
    ids=["product", "sum", "uneven", "cut", "dropout"],
)
def test_what_would_move_or_compute_is_refused(move, message):
    with pytest.raises(UnsupportedOperator, match=message):
        traced(Between(move, channels=0))


def test_operators_of_the_models_own_forward_have_names():
    nodes = assert_traced_as_it_is(Between(lambda x: nn.functional.silu(nn.functional.silu(x)))).graph.nodes
    assert len({node.name for node in nodes}) == len(nodes) and all(node.name for node in nodes)
