"""Contexts with masks: tokens that no attention is to see are left out, for the hardware sees all that there are."""

from __future__ import annotations

import math

import numpy as np
import torch


def kept_tokens(context: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """A context float64 [B, tokens, channels] with what ``keep`` bool [B, tokens] keeps alone, as many tokens of every sample:
    float64 [B, at most as many, channels].

    A sample that keeps fewer has each of its tokens as many times as it takes; softmax then gives every copy its share of the
    weight, and the same result. ValueError where a sample keeps none, and where that takes more tokens than there were.
    """
    if keep.shape != context.shape[:2]:
        raise ValueError(f"found a mask of shape {keep.shape}, expected {context.shape[:2]}: samples and tokens")
    counts = [int(count) for count in keep.sum(axis=1)]
    if 0 in counts:
        raise ValueError("found a mask that hides all tokens of a sample, expected one that keeps some")
    tokens = math.lcm(*counts)
    if tokens > context.shape[1]:
        raise ValueError(
            f"found a mask that keeps {', '.join(map(str, sorted(set(counts))))} tokens of the samples of one batch, expected "
            f"numbers whose common multiple is at most {context.shape[1]}; give one prompt at a time, without a negative one"
        )
    return np.stack([np.tile(row[mask], (tokens // mask.sum(), 1)) for row, mask in zip(context, keep, strict=True)])


def seen_tokens(context: np.ndarray, mask: torch.Tensor) -> np.ndarray:
    """A context float64 [B, tokens, channels] with the tokens that a mask [B, tokens] of ones and zeros keeps. ValueError for
    another mask, and as of :func:`kept_tokens`."""
    if mask.ndim != 2 or not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            "found an encoder_attention_mask that is no [batch, tokens] of ones and zeros; give such a one"
        )
    return kept_tokens(context, mask.numpy() != 0)
