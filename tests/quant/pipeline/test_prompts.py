"""What a model is calibrated on is what its pipeline shows it: no token that is hidden, none that is cut."""

from __future__ import annotations

import pytest
import torch
from diffusers import PixArtSigmaPipeline
from ditto_zynq.hls.artefact.prompts import check_prompts, most_tokens
from ditto_zynq.quant.pipeline.pipelines import encode_prompts, load_source

from tests.pipelines import CAPTIONS, latte, pixart, save, stable_diffusion

PROMPTS = [CAPTIONS[2], CAPTIONS[0], "0"]  # of several lengths


@pytest.fixture
def folder(tmp_path):
    def made(family: str):
        if family == "pixart":
            torch.manual_seed(0)
            pipeline = pixart()
            pipeline.save_pretrained(tmp_path / family)
            return pipeline, tmp_path / family
        return save(family, tmp_path / family), tmp_path / family

    return made


@torch.no_grad()
def alone(pipeline, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts [tokens, channels] of a prompt and of an empty one, as the denoiser sees them in a batch of one."""
    pipeline.text_encoder.eval()
    found = pipeline.encode_prompt([prompt], do_classifier_free_guidance=True, num_images_per_prompt=1, device="cpu")
    guided, unguided = (each[0] for each in found if each.ndim == 3)
    masks = [each[0] != 0 for each in found if each.ndim == 2]
    return (guided[masks[0]], unguided[masks[1]]) if masks else (guided, unguided)


@pytest.mark.parametrize("family", ["pixart", "latte", "stable_diffusion"])
def test_hidden_tokens_are_left_out(family, folder):
    pipeline, where = folder(family)
    found = encode_prompts(load_source(where), PROMPTS)
    expected = [alone(pipeline, prompt) for prompt in PROMPTS]
    longest = max(len(context) for pair in expected for context in pair)
    for index, pair in enumerate(expected):
        for context, exact in zip(found, pair, strict=True):
            in_turn = exact[torch.arange(longest) % len(exact)]
            assert context[index].shape == in_turn.shape and torch.allclose(context[index], in_turn, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "longest"),
    [(latte, 120), (pixart, 120), (lambda: pixart(PixArtSigmaPipeline), 300), (stable_diffusion, 512)],
)
def test_prompts_that_a_pipeline_would_cut(make, longest):
    pipeline = make()
    pipeline.tokenizer.model_max_length = 512
    assert most_tokens(pipeline) == longest
    word = next(word for word in CAPTIONS[0].split() if len(pipeline.tokenizer(f"{word} {word}").input_ids) <= 4)
    check_prompts(pipeline, [word])
    with pytest.raises(ValueError, match=f"found a prompt of {longest + 1} tokens, expected at most {longest}: "):
        check_prompts(pipeline, [" ".join([word] * (longest + 1 - len(pipeline.tokenizer("").input_ids)))])
    pipeline.tokenizer.model_max_length = 24
    assert most_tokens(pipeline) == 24
