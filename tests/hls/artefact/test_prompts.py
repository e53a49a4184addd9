"""How long a prompt may be; those of real pipelines are in quant/pipeline/test_prompts.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ditto_zynq.hls.artefact.prompts import check_prompts, most_tokens


class Words:
    """A tokenizer with a token for every word, and one before and after."""

    model_max_length = 6

    def __call__(self, prompt: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=["", *prompt.split(), ""])


class Pipeline:
    tokenizer = Words()

    def encode_prompt(self, prompt: str, max_sequence_length: int = 5) -> None: ...


def test_a_prompt_is_as_long_as_nothing_cuts_it():
    assert most_tokens(Pipeline()) == 5
    check_prompts(Pipeline(), ("a red heart", ""))
    with pytest.raises(ValueError, match="found a prompt of 6 tokens, expected at most 5: a very red heart"):
        check_prompts(Pipeline(), ("a red heart", "a very red heart"))


def test_a_pipeline_that_takes_none_may_be_given_none():
    check_prompts(SimpleNamespace(), ())
    with pytest.raises(ValueError, match="found prompts, but a SimpleNamespace takes none; expected a text-to-image"):
        check_prompts(SimpleNamespace(), ("a cat",))
