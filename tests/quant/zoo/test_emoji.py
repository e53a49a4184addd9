"""Pictures and clips out of npm's archives, and the models that are trained on them: a step each, then a stock pipeline."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, DiTPipeline, LattePipeline, StableDiffusionPipeline
from ditto_zynq.quant.zoo import emoji, emoji_models
from ditto_zynq.quant.zoo.trainer import Recipe
from PIL import Image

RECIPE = Recipe(steps=2, decay_steps=1, warmup_steps=1, batch=2)
NAMES = ("RED HEART", "GRINNING FACE", "SLICE OF PIZZA", "CAT FACE", "ROCKET", "FLAG: JAPAN")
GROUPS = ("Symbols", "Smileys & Emotion", "Food & Drink", "Animals & Nature", "Travel & Places", "Flags")


def archive(path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as members:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(frames: int) -> bytes:
    """Lossless, 32 x 32: frame i has grey 4 * i."""
    grey = [Image.new("RGB", (32, 32), (4 * index,) * 3) for index in range(frames)]
    return encoded(grey[0], "WEBP", save_all=True, append_images=grey[1:], lossless=True, duration=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Both packages, small, where npm would put them."""
    folder = tmp_path_factory.mktemp("packages")
    random = np.random.default_rng(0)
    entries, files = [], {}
    for index, (name, category) in enumerate(zip(NAMES, GROUPS, strict=True)):
        entries.append({"name": name, "short_name": "x", "image": f"1f60{index}.png", "category": category})
    tones = {"1F3FB": {"image": "1f44b-1f3fb.png"}, "1F3FB-1F3FF": {"image": "missing.png"}}
    person = {"name": None, "short_name": "waving_hand", "image": "1f44b.png", "category": "People & Body"}
    entries += [person | {"skin_variations": tones}, person | {"category": "Component"}]
    for image in [entry["image"] for entry in entries] + ["1f44b-1f3fb.png"]:
        pixels = random.integers(0, 256, (64, 64, 4)).astype(np.uint8)
        pixels[:8] = 0  # see-through
        files[f"package/img/google/64/{image}"] = encoded(Image.fromarray(pixels), "PNG")
    listed = {"package/emoji.json": json.dumps(entries).encode()}
    archive(folder / "emoji-datasource-google-16.0.0.tgz", listed | files)
    clips = {f"package/assets/{name}.webp": animation(48) for name in ("1f600", "1f601-fe0f", "1f602")}
    clips |= {"package/assets/1f603.webp": animation(10), "package/assets/1fffff.webp": animation(48)}
    archive(folder / "lobehub-fluent-emoji-anim-1-1.0.0.tgz", clips)
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_pictures(data):
    pictures = emoji.load_pictures(data)
    assert pictures.captions[:3] == ("red heart", "grinning face", "slice of pizza")
    assert pictures.captions[6:] == ("waving hand", "waving hand light skin"), "what has no picture is left out"
    assert [emoji.CATEGORIES[label] for label in pictures.labels] == [*GROUPS, "People & Body", "People & Body"]
    assert pictures.images.shape == (8, 64, 64, 3) and (pictures.images[:, :8] == 255).all()


def test_clips(data):
    """Evenly spaced frames of what is an animation and has a caption, once more from what was kept."""
    for _ in range(2):
        clips = emoji.load_clips(data, 24)
        assert clips.captions == ("red heart", "grinning face", "slice of pizza")
        assert clips.frames.shape == (3, 24, 64, 64, 3)
        assert np.array_equal(clips.frames[0, :, 0, 0, 0], 8 * np.arange(24))


def test_a_package_that_cannot_be_fetched(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"emoji-datasource-google-16.0.0.tgz is missing and 'npm pack .* put the file"
    ):
        emoji.load_pictures(tmp_path / "data")
    assert f"fetching {emoji.PICTURES} with npm into {tmp_path / 'data'}" in capsys.readouterr().err


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
