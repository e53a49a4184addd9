"""How long a prompt may be: pipelines cut what is longer without an error. diffusers is imported by those who call, not here."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from textwrap import shorten
from typing import Any

LATTE_TOKENS = 120  # LattePipeline.encode_prompt has no argument for it


def most_tokens(pipeline: Any) -> int:
    """The most tokens that a prompt of a diffusers ``pipeline`` may have, special ones counted: what its tokenizer has and its
    encode_prompt keeps."""
    cut = inspect.signature(pipeline.encode_prompt).parameters.get("max_sequence_length")
    limits = [pipeline.tokenizer.model_max_length]
    if cut is not None and isinstance(cut.default, int):
        limits.append(cut.default)
    if type(pipeline).__name__ == "LattePipeline":
        limits.append(LATTE_TOKENS)
    return min(limits)


def check_prompts(pipeline: Any, prompts: Sequence[str]) -> None:
    """ValueError for a prompt of more tokens than the pipeline keeps, or for one at all where it takes none."""
    if not prompts:
        return
    if not hasattr(pipeline, "encode_prompt"):
        raise ValueError(
            f"found prompts, but a {type(pipeline).__name__} takes none; expected a text-to-image pipeline"
        )
    longest = most_tokens(pipeline)
    for prompt in prompts:
        count = len(pipeline.tokenizer(prompt).input_ids)
        if count > longest:
            raise ValueError(f"found a prompt of {count} tokens, expected at most {longest}: {shorten(prompt, 60)}")
