"""What of a diffusers pipeline (folder or hub name) is quantized, and what comes along."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from torch import nn

from .trace import Interface, UnsupportedOperator

DENOISERS = ("unet", "transformer")
INDEX = "model_index.json"


@dataclass(frozen=True)
class Source:
    """A pipeline's denoiser in float32, which of its ``component``s it is, its scheduler's configuration, and its folder."""

    folder: Path
    component: str
    denoiser: nn.Module
    scheduler: dict[str, Any]
    components: tuple[str, ...]

    @property
    def interface(self) -> Interface:
        return Interface.of(self.denoiser)


def load_source(model: str | Path) -> Source:
    """FileNotFoundError for what is no pipeline, UnsupportedOperator for a denoiser diffusers does not know, ValueError for
    weights that are not finite."""
    folder = _folder(model)
    index = _read_json(folder / INDEX) if (folder / INDEX).is_file() else {}
    found = [name for name in DENOISERS if (folder / name / "config.json").is_file()]
    if not found:
        raise FileNotFoundError(
            f"{model} has neither unet/config.json nor transformer/config.json; expected a diffusers pipeline folder"
        )
    component = found[0]
    name = _read_json(folder / component / "config.json").get("_class_name", "")
    known = getattr(diffusers, name, None)
    if not (isinstance(known, type) and issubclass(known, nn.Module)):
        raise UnsupportedOperator(f"{model}: found a {component} of class {name!r}, expected one of diffusers")
    try:
        denoiser = known.from_pretrained(  # type: ignore[attr-defined]
            folder, subfolder=component, use_safetensors=True, low_cpu_mem_usage=False, dtype=torch.float32
        )
        scheduler = diffusers.DDPMScheduler.load_config(folder, subfolder="scheduler")
    except OSError as error:
        raise FileNotFoundError(f"{model} is no diffusers pipeline that can be read here: {error}") from error
    check_finite(denoiser)
    components = tuple(name for name, value in index.items() if isinstance(value, list) and value[0] is not None)
    kept = {key: value for key, value in scheduler.items() if not key.startswith("_")}
    return Source(folder, component, denoiser.eval(), kept, components)


def _folder(model: str | Path) -> Path:
    """A local folder, or the one to which a model of the hub is downloaded."""
    if Path(model).exists():
        return Path(model)
    try:
        return Path(DiffusionPipeline.download(str(model), use_safetensors=True))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{model} is no folder, and no pipeline of the hub that can be downloaded here: {error}"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON ({error}); get the model again") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: found {type(data).__name__}, expected a JSON object; get the model again")
    return data


def check_finite(denoiser: nn.Module) -> None:
    """ValueError that names the first weight which is not finite."""
    for name, value in denoiser.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).sum())
            raise ValueError(
                f"{name}: found {count} values that are NaN or infinite, expected finite weights; get the model again"
            )


@torch.no_grad()
def encode_prompts(source: Source, prompts: Sequence[str], check: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts float32 [N, tokens, channels] of the prompts and of as many empty ones, by the pipeline's own text encoder.

    ValueError where it has none, or, with ``check``, where a prompt is too long for it (else it is cut).
    """
    missing = [name for name in ("tokenizer", "text_encoder") if name not in source.components]
    missing += [
        name for name in ("tokenizer", "text_encoder") if not (source.folder / name).is_dir() and name not in missing
    ]
    if missing:
        raise ValueError(
            f"{source.folder} has no {' and no '.join(missing)}, which its prompts need; add them to the folder"
        )
    pipeline = DiffusionPipeline.from_pretrained(
        source.folder, **{source.component: None}, dtype=torch.float32, use_safetensors=True
    )
    if check:
        check_prompts(pipeline.tokenizer, prompts)
    found = pipeline.encode_prompt(
        list(prompts), do_classifier_free_guidance=True, num_images_per_prompt=1, device=torch.device("cpu")
    )
    guided, unguided = found[0].float(), found[1].float()
    # Some pipelines pad several prompts with zeros, and leave the padding of a single one out: here none pads the longest.
    tokens = int(guided.abs().amax(dim=(0, 2)).nonzero().max()) + 1
    return guided[:, :tokens], unguided.expand_as(guided)[:, :tokens]


def check_prompts(tokenizer: Any, prompts: Sequence[str]) -> None:
    """ValueError for a prompt of more tokens than the text encoder takes."""
    longest = tokenizer.model_max_length
    for prompt in prompts:
        count = len(tokenizer(prompt).input_ids)
        if count > longest:
            raise ValueError(f"found a prompt of {count} tokens, expected at most {longest}: {shorten(prompt, 60)}")
