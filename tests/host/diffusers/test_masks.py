"""Contexts without what their masks hide give the attention that the masks give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.host.diffusers.masks import kept_tokens
from torch.nn.functional import scaled_dot_product_attention


@pytest.mark.parametrize("counts", [(6, 6), (6, 1), (4, 2), (3, 2)])
def test_attention_to_the_kept_tokens_is_masked_attention(counts):
    random = np.random.default_rng(0)
    context, query = random.standard_normal((2, 6, 5)), torch.from_numpy(random.standard_normal((2, 4, 5)))
    keep = np.stack([random.permutation(np.arange(6) < count) for count in counts])
    kept = torch.from_numpy(kept_tokens(context, keep))
    assert kept.shape[1] == np.lcm(*counts) <= 6
    whole = torch.from_numpy(context)
    expected = scaled_dot_product_attention(query, whole, whole, attn_mask=torch.from_numpy(keep)[:, None])
    assert torch.allclose(scaled_dot_product_attention(query, kept, kept), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (np.zeros((2, 6), bool), "hides all tokens of a sample"),
        (np.arange(6) < np.array([[4], [5]]), "keeps 4, 5 tokens .*common multiple is at most 6; give one prompt"),
        (np.ones((2, 5), bool), r"found a mask of shape \(2, 5\), expected \(2, 6\)"),
    ],
)
def test_masks_that_leave_no_context_are_refused(keep, message):
    with pytest.raises(ValueError, match=message):
        kept_tokens(np.zeros((2, 6, 5)), keep)
