"""PixArt of 1024 x 1024: its sizes are folded in when it is quantized; the drop-in takes them, and masks that hide nothing."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from ditto_zynq.hls.artefact.model import save
from ditto_zynq.host.diffusers.drop_in import load_pipeline, wrap
from ditto_zynq.quant import quantize as quantizing
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.pipeline.size_embedding import pixels_per_latent, takes_sizes, with_sizes
from ditto_zynq.quant.quantize import Schedule, quantize, quantize_denoiser

from tests.conftest import SCHEDULER_CONFIG
from tests.pipelines import CAPTIONS, pixart

PIXART = {
    "sample_size": 8,
    "num_layers": 1,
    "patch_size": 2,
    "attention_head_dim": 4,
    "num_attention_heads": 3,
    "in_channels": 4,
    "out_channels": 8,
    "caption_channels": 11,
    "cross_attention_dim": 12,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "use_additional_conditions": True,
}
TOKENS = 6
STEP, LATENTS = 0.999, 0.99  # cosines: what 8 bits may cost of one step, and of a whole run with guidance


class Reached(Exception):
    pass


def reach(*_: object, **__: object) -> None:
    raise Reached


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    return PixArtTransformer2DModel(**PIXART).eval()


def given(sizes: dict, batch: int = 2) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(batch, 4, 8, 8, generator=generator),
        "encoder_hidden_states": torch.randn(batch, TOKENS, 11, generator=generator),
        "added_cond_kwargs": {name: torch.tensor([value] * batch) for name, value in sizes.items()},
    }


@torch.no_grad()
def test_folded_sizes_change_no_result(transformer):
    folded, sizes = with_sizes(transformer, 8, 8)
    assert sizes == {"resolution": [64.0, 64.0], "aspect_ratio": [1.0]}
    timestep = torch.tensor([7, 7])
    expected = transformer(**given(sizes), timestep=timestep).sample
    none = {**given(sizes), "added_cond_kwargs": None}
    assert torch.allclose(folded(**none, timestep=timestep).sample, expected, atol=1e-6)
    assert takes_sizes(transformer) and not takes_sizes(folded), "the model itself is as it was"
    others = {"resolution": [640.0, 64.0], "aspect_ratio": [10.0]}
    assert not torch.allclose(transformer(**given(others), timestep=timestep).sample, expected, atol=1e-3)


def test_pixels_of_a_latent_are_those_of_the_autoencoder(tmp_path):
    assert pixels_per_latent(tmp_path) == 8
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"block_out_channels": [4, 8]}))
    assert pixels_per_latent(tmp_path) == 2


@pytest.mark.parametrize(("text", "found"), [("{}", "found block_out_channels None"), ("{", "is not readable JSON")])
def test_an_autoencoder_that_does_not_say_its_sizes(text, found, tmp_path):
    """It is named, and read where sizes are an input of the model only."""
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(text)
    with pytest.raises(ValueError, match=f"{tmp_path}/vae/config.json.* ?{found}"):
        pixels_per_latent(tmp_path)
    stock = pixart()
    stock.save_pretrained(tmp_path)
    (tmp_path / "vae" / "config.json").write_text(text)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Reached):
        patch.setattr(quantizing, "encode_prompts", reach)
        quantize(tmp_path, tmp_path / "quantized", Schedule("ddim", 2, 0.0, 1), Options(4))


@pytest.fixture(scope="module")
def quantized(transformer, tmp_path_factory):
    contexts = torch.randn(2, 4, TOKENS, 11, generator=torch.Generator().manual_seed(2)).unbind()
    model = quantize_denoiser(
        transformer,
        SCHEDULER_CONFIG,
        Schedule("ddim", 2, 0.0, 1),
        Options(4, guidance=2.0),
        None,
        contexts,
        "transformer",
    )
    folder = tmp_path_factory.mktemp("pixart") / "model"
    save(model, folder)
    return wrap(folder)


@torch.no_grad()
def test_the_drop_in_takes_the_sizes_and_masks_of_ones(transformer, quantized):
    sizes = {"resolution": [64.0, 64.0], "aspect_ratio": [1.0]}
    ones = {"encoder_attention_mask": torch.ones(2, TOKENS), "attention_mask": None, "cross_attention_kwargs": {}}
    timestep = quantized.artefact.timesteps[0]
    expected = transformer(**given(sizes), timestep=torch.full((2,), timestep), **ones).sample
    found = quantized(**given(sizes), timestep=timestep, **ones).sample
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert cosine > STEP


@torch.no_grad()
def test_a_prompt_and_an_empty_one(transformer, quantized):
    """The stock pipeline's masks: 4 tokens of the prompt, 1 of the empty one, padding behind."""
    given_now = given({"resolution": [64.0, 64.0], "aspect_ratio": [1.0]})
    mask = (torch.arange(TOKENS) < torch.tensor([[4], [1]])).float()
    timestep = quantized.artefact.timesteps[0]
    expected = transformer(**given_now, timestep=torch.full((2,), timestep), encoder_attention_mask=mask).sample
    found = quantized(**given_now, timestep=timestep, encoder_attention_mask=mask).sample
    for image, exact in zip(found, expected, strict=True):
        assert torch.nn.functional.cosine_similarity(image.flatten(), exact.flatten(), dim=0) > STEP


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"added_cond_kwargs": None}, "found added_cond_kwargs that the model was not quantized for; give .*64.0"),
        (
            {"added_cond_kwargs": {"resolution": torch.tensor([[64.0, 32.0]] * 2), "aspect_ratio": torch.ones(2, 1)}},
            "found added_cond_kwargs that the model was not quantized for",
        ),
        ({"added_cond_kwargs": {}}, "found added_cond_kwargs that the model was not quantized for"),
        ({"encoder_attention_mask": torch.zeros(2, TOKENS)}, "hides all tokens of a sample"),
        ({"encoder_attention_mask": torch.full((2, 1, TOKENS), -1e4)}, "found an encoder_attention_mask that is no"),
        ({"attention_mask": torch.full((2, 1, 3), -1e4)}, "found attention_mask.*masks of ones only"),
        ({"cross_attention_kwargs": {"scale": 0.5}}, "found cross_attention_kwargs.*leave it out"),
        ({"timestep_cond": torch.zeros(2, 4)}, "found timestep_cond.*leave it out"),
    ],
)
def test_what_changes_the_result_is_refused(quantized, change, message):
    sizes = {"resolution": [64.0, 64.0], "aspect_ratio": [1.0]}
    with pytest.raises(ValueError, match=message):
        quantized(**{**given(sizes), **change}, timestep=quantized.artefact.timesteps[0])


def test_the_stock_pipeline_runs(tmp_path):
    """Prompts are padded to 120 tokens, and the pipeline's masks hide the padding."""
    torch.manual_seed(0)
    stock = pixart()
    stock.save_pretrained(tmp_path / "float")
    model = quantize(
        tmp_path / "float", tmp_path / "quantized", Schedule("ddim", 2, 0.0, 1), Options(4), prompts=CAPTIONS
    )
    assert model.quantization["guidance"] == 4.5, "PixArt's own default"
    latents = [
        pipeline(
            CAPTIONS[2],
            num_inference_steps=2,
            guidance_scale=3.0,
            height=16,
            width=16,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
            clean_caption=False,
            use_resolution_binning=False,
        )[0].flatten()
        for pipeline in (stock, load_pipeline(tmp_path / "quantized"))
    ]
    assert torch.nn.functional.cosine_similarity(*latents, dim=0) > LATENTS
