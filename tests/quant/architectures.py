"""Random denoisers of diffusers: their blocks and options in combinations that no checkpoint has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import (
    DiTTransformer2DModel,
    PixArtTransformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)
from ditto_zynq.quant.quantize import sample_shape_of
from torch import nn

TOKENS, BATCH = 5, 3
UNET: dict[str, list[Any]] = {  # of both kinds of U-Nets
    "layers_per_block": [1, 1, 2],
    "norm_num_groups": [2, 4],
    "center_input_sample": [False, False, True],
    "flip_sin_to_cos": [True, False],
    "freq_shift": [0, 1],
    "mid_block_scale_factor": [1, 1.4142],
    "downsample_padding": [0, 1],
    "dropout": [0.0, 0.1],
    "act_fn": ["silu", "silu", "gelu", "relu", "swish", "mish"],
    "norm_eps": [1e-5, 1e-3],
    "resnet_time_scale_shift": ["default", "scale_shift"],
    "num_class_embeds": [None, None, 3],
    "class_embed_type": [None] * 8 + ["timestep", "identity"],
}
UNCONDITIONAL = UNET | {
    "sample_size": [8, (8, 4), (4, 12)],
    "mid_block_type": ["UNetMidBlock2D", "UNetMidBlock2D", None],
    "time_embedding_type": ["positional", "positional", "fourier", "learned"],
    "downsample_type": ["conv", "resnet"],
    "upsample_type": ["conv", "resnet"],
    "attention_head_dim": [None, 2, 4],
    "attn_norm_num_groups": [None, 2],
    "add_attention": [True, True, False],
}
CONDITIONAL = UNET | {
    "sample_size": [8, (9, 7), (5, 6)],
    "mid_block_type": ["UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None],
    "time_embedding_type": ["positional", "positional", "fourier"],
    "attention_head_dim": [2, 4],
    "only_cross_attention": [False, False, True],
    "mid_block_only_cross_attention": [None, True],
    "use_linear_projection": [False, True],
    "upcast_attention": [False, True],
    "transformer_layers_per_block": [1, 1, 2],
    "class_embeddings_concat": [False, False, True],
    "resnet_out_scale_factor": [1.0, 1.4142],
    "resnet_skip_time_act": [False, False, True],
    "conv_in_kernel": [3, 1, 5],
    "conv_out_kernel": [3, 1],
    "time_embedding_dim": [None, 24],
    "time_embedding_act_fn": [None, "silu"],
    "timestep_post_act": [None, "silu"],
    "encoder_hid_dim": [None, None, 13],
    "addition_embed_type": [None] * 8 + ["text_time"],
}
DOWN = {
    UNet2DModel: ["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"] * 3 + ["SkipDownBlock2D"],
    UNet2DConditionModel: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "ResnetDownsampleBlock2D"] * 2
    + ["AttnDownBlock2D", "SimpleCrossAttnDownBlock2D"],
}
TRANSFORMER: dict[str, list[Any]] = {
    "sample_size": [8],
    "in_channels": [4],
    "num_layers": [1, 2],
    "patch_size": [1, 2, 4],
    "attention_head_dim": [4, 8],
    "num_attention_heads": [2, 3],
    "dropout": [0.0, 0.1],
    "attention_bias": [True, False],
    "norm_elementwise_affine": [False, True],
    "norm_eps": [1e-5, 1e-6],
}
DIT = TRANSFORMER | {
    "activation_fn": ["gelu-approximate", "gelu", "geglu", "swiglu", "geglu-approximate"],
    "num_embeds_ada_norm": [2, 5],
}
PIXART = TRANSFORMER | {
    "norm_type": ["ada_norm_single"],
    "activation_fn": ["gelu-approximate", "geglu"],
    "num_embeds_ada_norm": [1000],
    "use_additional_conditions": [False, True],
    "norm_elementwise_affine": [False],
}


@dataclass(frozen=True)
class Architecture:
    """A model that runs, what it was made of, and a batch of what its ``forward`` is given beside sample and timestep."""

    model: Any
    options: dict[str, Any]
    given: dict[str, torch.Tensor]

    @property
    def sample_argument(self) -> str:
        return "sample" if isinstance(self.model, (UNet2DModel, UNet2DConditionModel)) else "hidden_states"

    @property
    def refused(self) -> bool:
        """Whether the hardware has no counterpart for one of its options."""
        options = self.options
        blocks = options.get("down_block_types", ())
        simple = any(name.startswith("SimpleCross") for name in blocks) and not options["only_cross_attention"]
        return (
            options.get("activation_fn") == "geglu-approximate"
            or options.get("class_embed_type") is not None
            or options.get("addition_embed_type") is not None
            or "SkipDownBlock2D" in blocks
            or simple
        )


def random_architecture(seed: int) -> Architecture:
    """The first one of those that ``seed`` gives which diffusers can make and run."""
    random = np.random.default_rng(seed)
    for _ in range(100):
        kind, options = _draw(random)
        torch.manual_seed(seed)
        try:
            model = kind(**options).eval()
            architecture = Architecture(model, options, _given(model, options))
            sample = torch.zeros(BATCH, *sample_shape_of(model))
            with torch.no_grad():
                model(**{architecture.sample_argument: sample}, timestep=torch.full((BATCH,), 7), **architecture.given)
        except Exception:
            continue
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
        return architecture
    raise ValueError(f"found no architecture that runs for seed {seed}")


def _draw(random: np.random.Generator) -> tuple[type[nn.Module], dict[str, Any]]:
    kinds: dict[type[nn.Module], dict[str, list[Any]]] = {
        UNet2DModel: UNCONDITIONAL,
        UNet2DConditionModel: CONDITIONAL,
        DiTTransformer2DModel: DIT,
        PixArtTransformer2DModel: PIXART,
    }
    kind = list(kinds)[random.choice(4, p=[0.3, 0.45, 0.125, 0.125])]
    options = {name: values[random.integers(len(values))] for name, values in kinds[kind].items()}
    if kind in DOWN:
        depth = int(random.integers(1, 4))
        down = [DOWN[kind][random.integers(len(DOWN[kind]))] for _ in range(depth)]
        options["down_block_types"] = tuple(down)
        options["up_block_types"] = tuple(_mirrored(name) for name in reversed(down))
        options["block_out_channels"] = tuple(int(4 * random.integers(2, 5)) for _ in range(depth))
    if kind is UNet2DModel:
        options["num_train_timesteps"] = 1000 if options["time_embedding_type"] == "learned" else None
    if kind is UNet2DConditionModel:
        options["cross_attention_dim"] = 10
        if not options["downsample_padding"]:
            options["sample_size"] = 8  # odd ones are rounded down, and no integer factor leads back
    if kind is PixArtTransformer2DModel:
        options["cross_attention_dim"] = options["attention_head_dim"] * options["num_attention_heads"]
        options["caption_channels"] = 10
    return kind, options


def _mirrored(down: str) -> str:
    return "ResnetUpsampleBlock2D" if down == "ResnetDownsampleBlock2D" else down.replace("Down", "Up")


def _given(model: Any, options: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(0)
    if isinstance(model, DiTTransformer2DModel) or options.get("num_class_embeds") or options.get("class_embed_type"):
        given["class_labels"] = torch.arange(BATCH) % 3
    if isinstance(model, (UNet2DConditionModel, PixArtTransformer2DModel)):
        channels = options.get("encoder_hid_dim") or 10
        given["encoder_hidden_states"] = torch.randn(BATCH, TOKENS, channels, generator=generator)
    if options.get("use_additional_conditions"):
        given["added_cond_kwargs"] = {"resolution": torch.full((BATCH, 2), 64.0), "aspect_ratio": torch.ones(BATCH, 1)}
    if options.get("addition_embed_type"):
        given["added_cond_kwargs"] = {"text_embeds": torch.zeros(BATCH, 6), "time_ids": torch.zeros(BATCH, 6)}
    return given
