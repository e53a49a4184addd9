"""The models that are trained on emoji: a step each, then a stock pipeline."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, DiTPipeline, LattePipeline, StableDiffusionPipeline
from ditto_zynq.quant.common.trainer import Recipe
from ditto_zynq.quant.zoo import emoji, emoji_models

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Recipe(steps=2, decay_steps=1, warmup_steps=1, batch=2)


def test_words_are_tokens():
    tokenizer, model = emoji_models.build_clip(["slice of pizza", "red heart"])
    assert tokenizer.tokenize("slice of red pizza") == ["slice</w>", "of</w>", "red</w>", "pizza</w>"]
    assert len(tokenizer("zebra").input_ids) > 3, "other words are spelled"
    ids = tokenizer(["red heart", "slice of pizza"], padding="max_length", return_tensors="pt").input_ids
    assert model(ids).last_hidden_state.shape == (2, emoji_models.TOKENS, emoji_models.TEXT_CHANNELS)


def test_words_are_pieces_of_t5():
    tokenizer, model = emoji_models.build_t5(["slice of pizza", "red heart"])
    assert tokenizer.tokenize("slice of red pizza") == ["▁slice", "▁of", "▁red", "▁pizza"]
    assert tokenizer.tokenize("zebra") == ["▁", *"zebra"] and tokenizer.unk_token_id not in tokenizer("zebra").input_ids
    ids = tokenizer(["red heart", "slice of pizza"], padding="max_length", return_tensors="pt").input_ids
    assert model(ids).last_hidden_state.shape == (2, emoji_models.TOKENS, emoji_models.TEXT_CHANNELS)


@pytest.fixture(scope="module")
def vae(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "vae"
    emoji_models.train_vae(RECIPE, data, out)
    return out


def test_latents_have_the_deviation_that_the_noise_schedule_is_made_for(data, vae):
    autoencoder = AutoencoderKL.from_pretrained(vae)
    latents = emoji_models.encode_pictures(autoencoder, emoji.load_pictures(data).images)
    assert latents.shape == (8, 4, 16, 16) and latents.std().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "pipeline", "asked"),
    [
        ("text", StableDiffusionPipeline, {"prompt": "red heart"}),
        ("class", DiTPipeline, {"class_labels": [2]}),
        ("video", LattePipeline, {"prompt": "red heart", "video_length": 8, "height": 64, "width": 64}),
    ],
)
def test_a_trained_model_is_a_stock_pipeline(kind, pipeline, asked, data, vae, tmp_path):
    emoji_models.TRAININGS[kind](RECIPE, data, vae, tmp_path)
    loaded = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded) is pipeline
    loaded.set_progress_bar_config(disable=True)
    result = loaded(
        **asked, num_inference_steps=2, generator=torch.manual_seed(0), output_type="pt" if kind == "video" else "np"
    )
    assert result[0].shape[-3:] == ((3, 64, 64) if kind == "video" else (64, 64, 3))
