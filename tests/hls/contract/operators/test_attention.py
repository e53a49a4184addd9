"""Products of attention are those of einsum."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract import operators


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_products_are_those_of_einsum(heads):
    random = np.random.default_rng(heads)
    q, k, v = (random.integers(-128, 128, (2, 3, 4, heads * 5)) for _ in range(3))
    split = [x.reshape(2, 12, heads, 5) for x in (q, k, v)]
    scores = np.einsum("bqhd,bkhd->bhqk", split[0], split[1])
    assert np.array_equal(operators.attention.attention_scores(q, k, heads), scores)
    p = random.integers(0, 128, (2, heads, 12, 12))
    mixed = np.einsum("bhqk,bkhd->bqhd", p, split[2]).reshape(2, 12, heads * 5)
    assert np.array_equal(operators.attention.attention_mix(p, v, heads), mixed)
