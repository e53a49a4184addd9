"""Attention's products in floating point are the contract's, whatever sets of tokens attend to each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.contract.operators import MatMul
from ditto_zynq.hls.contract.operators.attention import attention_mix, attention_scores
from ditto_zynq.hls.contract.tensor import VALUE, Tensor
from ditto_zynq.quant.builders.float_step import FloatStep
from ditto_zynq.quant.operators import operator_of

HEADS, SHAPE = 2, (4, 3, 6)  # 12 tokens


@pytest.mark.parametrize(("windows", "interleaved"), [(1, False), (4, False), (3, True)])
@pytest.mark.parametrize("scores", [True, False])
def test_products(scores, windows, interleaved):
    random = np.random.default_rng(0)
    tokens = 12 // windows
    left_shape = SHAPE if scores else (windows * HEADS, tokens, tokens)
    left, right = (random.integers(-9, 10, (2, *shape)) for shape in (left_shape, SHAPE))
    node = MatMul("n", "n", ("l", "r"), HEADS, scores, SHAPE[:2], windows, interleaved)
    product = attention_scores if scores else attention_mix
    expected = product(left, right, HEADS, windows, interleaved)

    as_images = [torch.from_numpy(x).float() for x in (left, right)]
    images = [x.permute(0, 3, 1, 2) if scores or x is as_images[1] else x for x in as_images]
    step = FloatStep({"n.factor": torch.tensor(0.5)}, None, "n", 0, torch.zeros(2))
    found = operator_of(node).run(node, images, step, Tensor("n", VALUE, SHAPE))
    stored = found if scores else found.permute(0, 2, 3, 1).reshape(expected.shape)
    assert np.array_equal(2 * stored.numpy(), expected)
