"""Sizes that PixArt-alpha of 1024 x 1024 takes as an embedding beside the timestep (Chen et al. 2023, section 2.3).

A quantized model is for one size of samples, so for one resolution and aspect ratio: their embedding becomes part of the
timestep embedding's bias.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .pipelines import read_json

PIXELS = 8  # of a picture's side per latent's, of the autoencoders that these models were trained with


def takes_sizes(denoiser: nn.Module) -> bool:
    """Whether the model takes a resolution and an aspect ratio as ``added_cond_kwargs``."""
    return bool(getattr(denoiser, "use_additional_conditions", False))


def pixels_per_latent(folder: Path) -> int:
    """Pixels of a picture's side for each latent's, of the pipeline in ``folder``, by its autoencoder; 8 where it has none.
    ValueError where that does not say."""
    path = folder / "vae" / "config.json"
    if not path.is_file():
        return PIXELS
    widths = read_json(path).get("block_out_channels")
    if not isinstance(widths, list) or not widths:
        raise ValueError(f"{path}: found block_out_channels {widths!r}, expected a list of them; get the model again")
    return 2 ** (len(widths) - 1)


def with_sizes(
    denoiser: nn.Module, height: int, width: int, pixels: int = PIXELS
) -> tuple[nn.Module, dict[str, list[float]]]:
    """A transformer that always has the sizes of ``height`` x ``width`` latents of ``pixels`` x ``pixels`` pixels each, sharing
    all other weights with ``denoiser``, and these sizes, which are what pipelines give as ``added_cond_kwargs``."""
    sizes = {"resolution": [float(height * pixels), float(width * pixels)], "aspect_ratio": [height / width]}
    folded = shared(denoiser)
    norm = folded.adaln_single = shared(folded.adaln_single)
    norm.emb = shared(norm.emb)
    time = norm.emb.timestep_embedder = copy.deepcopy(norm.emb.timestep_embedder)
    project = norm.emb.additional_condition_proj
    with torch.no_grad():
        time.linear_2.bias += torch.cat(
            [
                norm.emb.resolution_embedder(project(torch.tensor(sizes["resolution"]))).flatten(),
                norm.emb.aspect_ratio_embedder(project(torch.tensor(sizes["aspect_ratio"]))).flatten(),
            ]
        )
    folded.use_additional_conditions = norm.emb.use_additional_conditions = False
    return folded, sizes


def shared(module: nn.Module) -> Any:
    """A copy of a module that shares its weights, and whose children and attributes can be replaced without changing the first
    one."""
    other = copy.copy(module)
    other._modules = dict(module._modules)
    return other
