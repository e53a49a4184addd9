"""The shipped models on pictures and animations of :mod:`.emoji`: an autoencoder, and what denoises its latents."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    LattePipeline,
    LatteTransformer3DModel,
    ModelMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from ..common.trainer import Recipe, Trainer, run_convolutions_in_bfloat16
from .emoji import CATEGORIES, SIZE, load_clips, load_pictures

CLIP_FRAMES = 24  # of an animation, for the autoencoder and the video model
PICTURE_REPEATS = 3  # of the pictures among the more numerous frames
DIVERGENCE_WEIGHT = 1e-3  # of the latents from a normal distribution, per element

VAE_RECIPE = Recipe(steps=2_500, decay_steps=1_200, warmup_steps=100, batch=16, ema=0.998)


def build_vae() -> AutoencoderKL:
    """An autoencoder of 64x64x3 pictures as 16x16x4 latents, with 1.6 M parameters."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def train_vae(recipe: Recipe, data: Path, out: Path) -> None:
    """Train an autoencoder of pictures and frames: mean absolute error, and the divergence of latents from a normal
    distribution."""
    pictures, clips = load_pictures(data).images, load_clips(data, CLIP_FRAMES).frames
    images = np.concatenate([pictures] * PICTURE_REPEATS + [clips.reshape(-1, *pictures.shape[1:])])
    torch.manual_seed(recipe.seed)
    vae = build_vae().to(memory_format=torch.channels_last)

    def loss(picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        x = as_tensor(images[picked.numpy()]).to(memory_format=torch.channels_last)
        distribution = vae.encode(x).latent_dist
        noise = torch.randn(distribution.mean.shape, generator=generator)
        decoded = vae.decode(distribution.mean + distribution.std * noise).sample
        divergence = 0.5 * (distribution.mean**2 + distribution.var - 1 - distribution.logvar).mean()
        return F.l1_loss(decoded, x) + DIVERGENCE_WEIGHT * divergence

    trainer = Trainer(recipe, out, vae, loss, len(images))
    run_convolutions_in_bfloat16(vae)
    trainer.run()
    final = build_vae()
    final.load_state_dict(trainer.average)
    deviation = encode_pictures(final, pictures).std().item() / final.config.scaling_factor
    final.register_to_config(scaling_factor=1 / deviation)
    final.save_pretrained(out)


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """Images float32 [N, 3, H, W] in [-1, 1] of pixels uint8 [N, H, W, 3]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, images: np.ndarray) -> torch.Tensor:
    """Means of the latents of pictures uint8 [N, H, W, 3], float32 [N, 4, H / 4, W / 4], times the scaling factor."""
    parts = [vae.encode(as_tensor(part)).latent_dist.mean for part in np.array_split(images, len(images) // 64 + 1)]
    return torch.cat(parts) * vae.config.scaling_factor


# --------------------------------------------------------------------------------------------------------------- denoisers

_in_bfloat16 = torch.autocast(
    "cpu", dtype=torch.bfloat16
)  # products only; 1.8 times faster for transformers (measured)
TOKENS = 24  # of a caption; the longest has 17
VOCABULARY = 8_000  # of CLIP, at most: rare words are tokens too, for there is little text to learn spelling from
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
SPELLED = -100.0  # logarithm of a letter's probability: words that are known are never spelled
TEXT_CHANNELS = 128
NULL_CLASS = 1_000  # what diffusers' DiTPipeline gives the unguided branch
FRAMES = 8  # of a clip that the video model sees
CAPTION_DROPOUT = 0.15
SNR_LIMIT = 5.0

PICTURE_RECIPE = Recipe(steps=5_000, decay_steps=2_000, batch=32, learning_rate=1e-3, ema=0.998)
CLASS_RECIPE = Recipe(steps=4_500, decay_steps=1_800, batch=32, learning_rate=7e-4, ema=0.998)
VIDEO_RECIPE = Recipe(steps=10_500, decay_steps=1_200, batch=4, learning_rate=7e-4, ema=0.998)


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule; models predict the velocity (Salimans & Ho 2022), as its version 2.1 does."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build_unet() -> UNet2DConditionModel:
    """A U-Net of 16x16x4 latents, with attention to captions at 8x8 and, in the middle, 4x4; 4.5 M parameters."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(64, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_CHANNELS,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_dit() -> DiTTransformer2DModel:
    """A DiT of 16x16x4 latents in patches of 2x2, conditioned by category; 5.8 M parameters."""
    return DiTTransformer2DModel(
        num_attention_heads=6,
        attention_head_dim=32,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        sample_size=16,
        patch_size=2,
        num_embeds_ada_norm=NULL_CLASS,
        attention_bias=True,
        activation_fn="gelu-approximate",
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )


def build_latte() -> LatteTransformer3DModel:
    """A Latte of 8 frames of 16x16x4 latents in patches of 2x2, with attention to captions; 3.5 M parameters."""
    return LatteTransformer3DModel(
        num_attention_heads=6,
        attention_head_dim=32,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=16,
        patch_size=2,
        cross_attention_dim=192,
        caption_channels=TEXT_CHANNELS,
        num_embeds_ada_norm=1_000,
        attention_bias=True,
        activation_fn="gelu-approximate",
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        video_length=FRAMES,
    )


def build_clip(captions: Sequence[str]) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """A byte-pair tokenizer of the captions' words, and a text model of two layers, not trained yet."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, end_of_word_suffix="</w>", initial_alphabet=list(ALPHABET), show_progress=False
    )
    tokenizer.train_from_iterator(sorted(set(captions)), trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    vocabulary = learned["vocab"]
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    merges: list[Any] = [tuple(pair) for pair in learned["merges"]]
    clip = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=TEXT_CHANNELS,
        intermediate_size=2 * TEXT_CHANNELS,
        projection_dim=TEXT_CHANNELS,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )
    return clip, CLIPTextModel(config)


def build_t5(captions: Sequence[str]) -> tuple[T5Tokenizer, T5EncoderModel]:
    """A tokenizer and a text model in T5's form, which diffusers' LattePipeline takes: the captions' words are pieces, others are
    spelled."""
    counts = Counter(word for caption in captions for word in caption.split())
    words = [(f"▁{word}", math.log(count / counts.total())) for word, count in sorted(counts.items())]
    letters = [(letter, SPELLED) for letter in ("▁", *ALPHABET)]
    vocabulary = [(special, 0.0) for special in ("<pad>", "</s>", "<unk>")] + words + letters
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=TEXT_CHANNELS,
        d_ff=2 * TEXT_CHANNELS,
        d_kv=32,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
    )
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=TOKENS), T5EncoderModel(config)


def train_text_to_image(recipe: Recipe, data: Path, vae: Path, out: Path) -> None:
    """Train a U-Net and its text model together on captioned pictures; writes a folder for StableDiffusionPipeline."""
    autoencoder, pictures = AutoencoderKL.from_pretrained(vae), load_pictures(data)
    torch.manual_seed(recipe.seed)
    tokenizer, text_model = build_clip(pictures.captions)
    unet, scheduler = build_unet().to(memory_format=torch.channels_last), build_scheduler()
    latents = encode_pictures(autoencoder, pictures.images)
    tokens, shares = _tokens(tokenizer, pictures.captions), _shares(pictures.labels)
    empty = _tokens(tokenizer, [""])

    @_in_bfloat16
    def loss(picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        picked = torch.multinomial(shares, len(picked), generator=generator)
        dropped = torch.rand(len(picked), generator=generator) < CAPTION_DROPOUT
        context = text_model(torch.where(dropped[:, None], empty, tokens[picked])).last_hidden_state
        example = Example.of(latents[picked], scheduler, generator)
        return example.loss(unet(example.noisy, example.timesteps, encoder_hidden_states=context).sample)

    trained = nn.ModuleDict({"unet": unet, "text": text_model})
    trainer = Trainer(recipe, out, trained, loss, len(latents))
    trainer.run()
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_model,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    )
    _save(pipeline, out)


def train_class_to_image(recipe: Recipe, data: Path, vae: Path, out: Path) -> None:
    """Train a DiT on pictures by category; writes a folder for DiTPipeline."""
    autoencoder, pictures = AutoencoderKL.from_pretrained(vae), load_pictures(data)
    torch.manual_seed(recipe.seed)
    dit, scheduler = build_dit().eval(), build_scheduler()  # eval: labels are dropped here, for all blocks alike
    latents, labels = encode_pictures(autoencoder, pictures.images), torch.from_numpy(pictures.labels)
    shares = _shares(pictures.labels)

    @_in_bfloat16
    def loss(picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        picked = torch.multinomial(shares, len(picked), generator=generator)
        dropped = torch.rand(len(picked), generator=generator) < CAPTION_DROPOUT
        example = Example.of(latents[picked], scheduler, generator)
        classes = labels[picked].masked_fill(dropped, NULL_CLASS)
        return example.loss(dit(example.noisy, example.timesteps, class_labels=classes).sample)

    trainer = Trainer(recipe, out, dit, loss, len(latents))
    trainer.run()
    names = dict(enumerate(CATEGORIES))
    _save(DiTPipeline(dit, autoencoder, scheduler, id2label=names), out)


def train_video(recipe: Recipe, data: Path, vae: Path, out: Path) -> None:
    """Train a Latte and its text model together on captioned animations; writes a folder for LattePipeline."""
    autoencoder, clips = AutoencoderKL.from_pretrained(vae), load_clips(data, CLIP_FRAMES)
    torch.manual_seed(recipe.seed)
    tokenizer, text_model = build_t5(clips.captions)
    latte, scheduler = build_latte(), build_scheduler()
    frames = clips.frames[:, :: CLIP_FRAMES // FRAMES]
    latents = encode_pictures(autoencoder, frames.reshape(-1, *frames.shape[2:]))
    latents = latents.reshape(len(frames), FRAMES, *latents.shape[1:]).transpose(1, 2)  # [N, 4, F, h, w]
    tokens, empty = _tokens(tokenizer, clips.captions), _tokens(tokenizer, [""])
    pad = tokenizer.pad_token_id

    @_in_bfloat16
    def loss(picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        dropped = torch.rand(len(picked), generator=generator) < CAPTION_DROPOUT
        ids = torch.where(dropped[:, None], empty, tokens[picked])
        ids = ids[:, : int((ids != pad).sum(dim=1).max())]  # LattePipeline leaves the padding of a single caption out,
        mask = ids != pad  # that of several is zeros, and that of the unguided branch is what the text model says
        context = text_model(ids, attention_mask=mask)[0] * (mask | dropped[:, None])[:, :, None]
        example = Example.of(latents[picked], scheduler, generator)
        predicted = latte(example.noisy, example.timesteps, encoder_hidden_states=context).sample
        return example.loss(predicted[:, : latents.shape[1]])

    trained = nn.ModuleDict({"transformer": latte, "text": text_model})
    trainer = Trainer(recipe, out, trained, loss, len(latents))
    trainer.run()
    pipeline = LattePipeline(
        tokenizer=tokenizer, text_encoder=text_model, vae=autoencoder, transformer=latte, scheduler=scheduler
    )
    _save(pipeline, out)


def _shares(labels: np.ndarray) -> torch.Tensor:
    """How often each picture is seen: people in all skins are most of them, and would be most of what is learned."""
    found = torch.from_numpy(labels)
    return torch.bincount(found).double()[found].rsqrt()


def _tokens(tokenizer: CLIPTokenizer | T5Tokenizer, captions: Sequence[str]) -> torch.Tensor:
    """Token ids int64 [N, TOKENS] of captions."""
    texts = tokenizer(list(captions), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    return texts.input_ids


@dataclass(frozen=True)
class Example:
    """Latents with noise, how far along each is, and what is to be predicted of them, with weights [B]."""

    noisy: torch.Tensor
    timesteps: torch.Tensor
    velocity: torch.Tensor
    weights: torch.Tensor

    @staticmethod
    def of(latents: torch.Tensor, scheduler: DDIMScheduler, generator: torch.Generator) -> Example:
        """Latents with noise of the generator's, at timesteps of the generator's."""
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),), generator=generator)
        signal = scheduler.alphas_cumprod[timesteps]
        ratio = signal / (1 - signal)
        # Of the picture's error: SNR + 1 (Salimans & Ho 2022, section 4), limited (as Hang et al. 2023). As one of the velocity:
        weights = (ratio.clamp(max=SNR_LIMIT) + 1) / (ratio + 1)
        velocity = scheduler.get_velocity(latents, noise, timesteps)
        return Example(scheduler.add_noise(latents, noise, timesteps), timesteps, velocity, weights)

    def loss(self, predicted: torch.Tensor) -> torch.Tensor:
        """The weighted mean squared error of what a model ``predicted``."""
        errors = (predicted.float() - self.velocity).square().flatten(1).mean(dim=1)
        return (self.weights * errors).mean()


def _save(pipeline: DiffusionPipeline, out: Path) -> None:
    """Write a pipeline: diffusers' models as float16, which is half as large, and loaded as float32 again; transformers' are
    loaded as they are."""
    for part in pipeline.components.values():
        if isinstance(part, ModelMixin):
            part.to(torch.float16)
    pipeline.save_pretrained(out)


RECIPES = {"vae": VAE_RECIPE, "text": PICTURE_RECIPE, "class": CLASS_RECIPE, "video": VIDEO_RECIPE}
TRAININGS = {"text": train_text_to_image, "class": train_class_to_image, "video": train_video}
