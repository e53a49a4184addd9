"""Which diffusers models can be quantized, by their configuration alone: checked before weights are read or prompts encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...hls.artefact.scheduler_config import takes_variance
from ...hls.common.limits import LARGEST_DIMENSION, MOST_PIXELS
from ..common.unsupported import UnsupportedOperator
from ..prune.narrow import STOCK_NAMES

UNETS = ("UNet2DModel", "UNet2DConditionModel")
TRANSFORMERS = ("DiTTransformer2DModel", "LatteTransformer3DModel", "PixArtTransformer2DModel", "Transformer2DModel")
CONDITIONS = {  # of the denoiser's configuration: what it makes the model take beside sample, timestep, label and context
    "addition_embed_type": "added conditions (added_cond_kwargs), as of SDXL, Kandinsky and DeepFloyd IF",
    "class_embed_type": "class embeddings of another kind than a table",
    "encoder_hid_dim_type": "a projected context",
}
MOST_FRAMES = 1 << 10
PROJECTED_TEXT = "text_proj"  # the encoder_hid_dim_type that is a linear layer on the context


def check_config(config: Mapping[str, Any], where: str) -> None:
    """UnsupportedOperator, in one line, for a denoiser's configuration of a kind that cannot be quantized; ``where`` names it.

    Its conditions, channels and size are checked, not whether its layers are known: that is tracing's part.
    """
    kind = config.get("_class_name", "")
    kind = STOCK_NAMES.get(kind, kind)
    if kind not in (*UNETS, *TRANSFORMERS):
        raise UnsupportedOperator(
            f"{where}: found a model of class {kind!r}, expected one of {', '.join(UNETS + TRANSFORMERS)}"
        )
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, Mapping) else quantization
        raise UnsupportedOperator(
            f"{where}: found weights quantized by {method!r}, expected float ones; get the float model"
        )
    if config.get("dual_cross_attention"):
        raise UnsupportedOperator(
            f"{where}: found dual_cross_attention, whose layers attend to two contexts, as Versatile Diffusion's: they cannot be "
            "quantized; get a model that attends to one"
        )
    for name, meaning in CONDITIONS.items():
        value = config.get(name)
        if value is not None and value != PROJECTED_TEXT:
            raise UnsupportedOperator(f"{where}: found {name} {value!r}: {meaning} cannot be quantized")
    if config.get("attention_type", "default") not in ("default", None) and kind in UNETS:
        raise UnsupportedOperator(
            f"{where}: found attention_type {config['attention_type']!r}: its boxes cannot be quantized"
        )
    _check_size(config, where)
    _check_channels(config, where)


def _check_size(config: Mapping[str, Any], where: str) -> None:
    size: Any = config.get("sample_size")
    sides = size if isinstance(size, (list, tuple)) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise UnsupportedOperator(
            f"{where}: found sample_size {size!r}, expected the height and width of samples; give --sample-size, such as "
            "--sample-size 64 for latents of 64 x 64"
        )
    if max(sides) > LARGEST_DIMENSION or sides[0] * sides[1] > MOST_PIXELS:
        raise UnsupportedOperator(
            f"{where}: found sample_size {size!r}, expected sides of at most {LARGEST_DIMENSION} and at most "
            f"{MOST_PIXELS} pixels; give a smaller --sample-size"
        )
    frames = config.get("video_length")
    if frames is not None and (
        isinstance(frames, bool) or not isinstance(frames, int) or not 2 <= frames <= MOST_FRAMES
    ):
        raise UnsupportedOperator(
            f"{where}: found video_length {frames!r}, expected 2 to {MOST_FRAMES} frames: attention between the frames of a video"
        )


def _check_channels(config: Mapping[str, Any], where: str) -> None:
    inputs: Any = config.get("in_channels")
    outputs: Any = config.get("out_channels") or inputs
    for name, channels in (("in_channels", inputs), ("out_channels", outputs)):
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise UnsupportedOperator(f"{where}: found {name} {channels!r}, expected a number of at least 1")
    if outputs not in (inputs, 2 * inputs):
        raise UnsupportedOperator(
            f"{where}: found {inputs} input and {outputs} output channels, expected as many, or twice as many with a learned "
            "variance; models with conditions among their channels (inpainting, upscaling, ControlNet's kind) cannot be quantized"
        )


def check_variance(config: Mapping[str, Any], kind: str, scheduler: Mapping[str, Any]) -> None:
    """ValueError for a U-Net that predicts a variance and a ``scheduler``, of class ``kind``, that takes none, or the reverse;
    transformers' pipelines cut it off."""
    inputs, outputs = config["in_channels"], config.get("out_channels") or config["in_channels"]
    if outputs == inputs and takes_variance(kind, scheduler):
        raise ValueError(
            f"found variance_type {scheduler.get('variance_type')!r}, which needs twice as many outputs as inputs, and {outputs} "
            f"output channels for {inputs}; choose another --scheduler, or mend the scheduler's configuration"
        )
    if outputs != inputs and config.get("_class_name") in UNETS and not takes_variance(kind, scheduler):
        raise ValueError(
            f"found {outputs} output channels for {inputs}: the model predicts a variance too, which only ddpm with "
            f"variance_type 'learned' or 'learned_range' takes (found {kind}, variance_type {scheduler.get('variance_type')!r})"
        )
