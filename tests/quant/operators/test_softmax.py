"""A softmax's codes: shares of the row's largest probability."""

from __future__ import annotations

import torch
from ditto_zynq.hls.contract.operators import Softmax
from ditto_zynq.quant.operators import OPERATORS


def test_rounded_rows_are_whole_codes_that_add_up_to_one():
    operator = OPERATORS[Softmax]
    exact = torch.randn(2, 3, 5, 40, generator=torch.Generator().manual_seed(0)).mul(4).softmax(dim=-1)
    found = operator.rounded(exact)
    codes = found / found.amax(dim=-1, keepdim=True) / operator.fixed_scale
    assert torch.allclose(codes, codes.round(), atol=1e-4) and torch.allclose(found.sum(dim=-1), torch.ones(2, 3, 5))
    shares = exact / exact.amax(dim=-1, keepdim=True) / operator.fixed_scale
    assert (codes - shares).abs().max() < 1
