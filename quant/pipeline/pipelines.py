"""What of a diffusers pipeline (folder or hub name) is quantized, and what comes along."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import list_repo_files, snapshot_download
from safetensors import SafetensorError
from torch import nn

from ...hls.artefact.folder import COMPONENTS, INDEX, check_index
from ...hls.artefact.prompts import check_prompts
from ...hls.common.explained import explained
from ..prune import narrow
from ..trace.tracing import Interface
from .supported import check_config

CONFIG, SCHEDULER_CONFIG = "config.json", "scheduler_config.json"
SCHEDULERS = (f"scheduler/{SCHEDULER_CONFIG}", SCHEDULER_CONFIG)
WEIGHTS = "diffusion_pytorch_model"
LONGEST_CLAUSE = 200
SHOWN = 3  # of the keys that do not fit


@dataclass(frozen=True)
class Source:
    """A pipeline's denoiser in float32, which of its ``component``s it is, its scheduler's configuration and class, and its
    folder; ``variant`` of the weights' files; ``pipeline``: the class of the whole, if it says so."""

    folder: Path
    component: str
    denoiser: nn.Module
    scheduler: dict[str, Any]
    components: tuple[str, ...]
    scheduler_class: str | None = None
    variant: str | None = None
    pipeline: str | None = None

    @property
    def interface(self) -> Interface:
        """What the denoiser takes beside the sample."""
        return Interface.of(self.denoiser)


def load_source(model: str | Path, variant: str | None = None, sample_size: tuple[int, int] | None = None) -> Source:
    """Read a pipeline's folder, or that of a model alone, with its scheduler's configuration beside it.

    ``variant``: of the files with weights, such as fp16; ``sample_size``: height and width instead of the configuration's.
    FileNotFoundError for what is no pipeline, UnsupportedOperator for a denoiser of a kind that cannot be quantized, ValueError
    for weights that are not all of the model's, not finite, or more than those.
    """
    folder = _folder(model, variant)
    index = _read_index(folder)
    component, where = _find_denoiser(folder, model)
    config = read_json(where / CONFIG) | _asked_size(sample_size)
    check_config(config, str(where / CONFIG))
    scheduler = _scheduler_config(folder)
    denoiser = _load_denoiser(where, config, variant)
    check_finite(denoiser)
    components = tuple(name for name, value in index.items() if isinstance(value, list) and value[0] is not None)
    kept = {key: value for key, value in scheduler.items() if not key.startswith("_")}
    names = scheduler.get("_class_name"), variant, index.get("_class_name")
    return Source(folder, component, denoiser.eval(), kept, components, *names)


def _asked_size(sample_size: tuple[int, int] | None) -> dict[str, Any]:
    """What a configuration says of samples of this height and width: one number of square ones, which transformers take alone."""
    if sample_size is None:
        return {}
    height, width = sample_size
    return {"sample_size": height if height == width else [height, width]}


def _read_index(folder: Path) -> dict[str, Any]:
    """The pipeline's index; empty where there is none. ArtefactError for a pipeline or a part that is code of its own: it could
    not be loaded again."""
    if not (folder / INDEX).is_file():
        return {}
    check_index(
        folder,
        "code that comes with a model is never run: give the denoiser's own folder, with its scheduler's configuration",
    )
    return read_json(folder / INDEX)


def _folder(model: str | Path, variant: str | None) -> Path:
    """A local folder, or the one to which a model of the hub is downloaded; FileNotFoundError, with what to do, for neither."""
    if Path(model).exists():
        return Path(model)
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", str(model)):
        raise FileNotFoundError(
            f"{model} is no folder here, and no name of the hub, which are OWNER/NAME; give the path of a diffusers folder, or "
            "such a name"
        )
    try:
        return Path(DiffusionPipeline.download(str(model), use_safetensors=True, variant=variant))
    except (OSError, ValueError) as error:
        refused = FileNotFoundError(
            f"{model} is no folder, and no pipeline of the hub that can be downloaded here ({clause_of(error)}); check its name "
            "and the network, or download it elsewhere and give its folder"
        )
        try:
            names = list_repo_files(str(model))
        except Exception as unreachable:  # there is no end to what a network raises
            raise refused from unreachable
        patterns = _denoiser_on_hub(str(model), names, variant)
        if INDEX in names or not patterns:
            raise refused from error
    return Path(snapshot_download(str(model), allow_patterns=[*patterns, *SCHEDULERS]))


def clause_of(error: BaseException) -> str:
    """The first sentence of what a library says at length, in one line, without its address lists."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.split(r"(?<=[.!?]) |: https?:| \(Request ID", text)[0].rstrip(".")[:LONGEST_CLAUSE]


def _denoiser_on_hub(model: str, names: Sequence[str], variant: str | None) -> list[str]:
    """The files of a denoiser among ``names`` of a repository, in a folder of its own or in the root; FileNotFoundError, with
    what to do, where its weights are not among them."""
    root = next((f"{name}/" for name in COMPONENTS if f"{name}/{CONFIG}" in names), "")
    if root + CONFIG not in names:
        return []
    own = [name.removeprefix(root) for name in names if name.startswith(root) and "/" not in name.removeprefix(root)]
    _check_weights(f"{model}/{root}".rstrip("/"), own, variant)
    part = re.escape(f".{variant}") if variant else ""
    wanted = re.compile(rf"{WEIGHTS}(\.safetensors\.index)?{part}(-\d+-of-\d+)?\.(safetensors|json)")
    return [root + name for name in own if name == CONFIG or wanted.fullmatch(name)]


def _find_denoiser(folder: Path, model: str | Path) -> tuple[str, Path]:
    """Which component it is, and the folder of its configuration: one of its own, or, of a model alone, the root."""
    for name in COMPONENTS:
        if (folder / name / CONFIG).is_file():
            return name, folder / name
    if (folder / CONFIG).is_file() and "_class_name" in (config := read_json(folder / CONFIG)):
        return ("transformer" if "Transformer" in str(config["_class_name"]) else "unet"), folder
    raise FileNotFoundError(
        f"{model} has neither unet/config.json nor transformer/config.json; expected a diffusers pipeline folder"
    )


def _scheduler_config(folder: Path) -> dict[str, Any]:
    for name in SCHEDULERS:
        if (folder / name).is_file():
            return read_json(folder / name)
    raise FileNotFoundError(
        f"{folder} has no scheduler/{SCHEDULER_CONFIG}, which says what noise the model was trained with; put that of its "
        "training there (diffusers: scheduler.save_pretrained)"
    )


def _load_denoiser(where: Path, config: dict[str, Any], variant: str | None) -> nn.Module:
    _check_weights(where, [path.name for path in where.iterdir() if path.is_file()], variant)
    _check_shards(where, variant)
    known = getattr(narrow, config["_class_name"], None) or getattr(diffusers, config["_class_name"])
    changed = {"sample_size": config["sample_size"]} if "sample_size" in config else {}
    try:
        denoiser, loaded = known.from_pretrained(
            where,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            dtype=torch.float32,
            variant=variant,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **changed,
        )
    except OSError as error:
        raise FileNotFoundError(
            f"{where} is no model that can be read here: {clause_of(error)}; get it again"
        ) from error
    except SafetensorError as error:
        raise ValueError(
            f"{where}: its weights are no safetensors ({clause_of(error)}); get the model again"
        ) from error
    except Exception as error:  # whatever a configuration that makes no model raises in its layers
        raise ValueError(f"{where / CONFIG} makes no {known.__name__} ({type(error).__name__}: {error})") from error
    _check_keys(where, loaded)
    return denoiser


def _check_weights(where: Path | str, names: Sequence[str], variant: str | None) -> None:
    """FileNotFoundError, with what to do, where the weights are not among the files ``names`` of ``where`` as safetensors."""
    files = sorted(names)
    part = f".{variant}" if variant else ""
    wanted = re.compile(rf"{WEIGHTS}(\.safetensors\.index)?{re.escape(part)}\.(safetensors|json)")
    if any(wanted.fullmatch(name) for name in files):
        return
    pattern = rf"{WEIGHTS}\.(?:safetensors\.index\.)?([\w-]+)\.(?:safetensors|json)"
    variants = [found[1] for name in files if (found := re.fullmatch(pattern, name)) and found[1] != "safetensors"]
    plain = [name for name in files if re.fullmatch(rf"{WEIGHTS}(\.safetensors|\.safetensors\.index\.json)", name)]
    if plain:
        advice = f"only {plain[0]}, which is of no variant; leave --variant out"
    elif variants:
        advice = f"only those of variant {variants[0]!r}; say --variant {variants[0]}"
    elif any(name.endswith((".bin", ".ckpt", ".pt", ".pth")) for name in files):
        advice = (
            "only pickles, which are never read; convert them where you trust them, with "
            "save_pretrained(folder, safe_serialization=True), a module that was pruned and pickled whole after "
            "ditto_zynq.quant.prune.narrow.adopt(model)"
        )
    else:
        advice = "none; get the model again"
    raise FileNotFoundError(f"{where} has no {WEIGHTS}{part}.safetensors; found {advice}")


def _check_shards(where: Path, variant: str | None) -> None:
    """ValueError that names the index of weights in several files, where it is none or lists files that are not there."""
    part = f".{variant}" if variant else ""
    for path in (where / f"{WEIGHTS}.safetensors.index{part}.json", where / f"{WEIGHTS}{part}.safetensors.index.json"):
        if not path.is_file():
            continue
        shards = read_json(path).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
            raise ValueError(f"{path} has no weight_map of keys to files; get the model again")
        missing = sorted({name for name in shards.values() if not (where / name).is_file()})
        if missing:
            raise FileNotFoundError(
                f"{path} lists {missing[0]}, which is not there; get the model again, all of its files"
            )


def _check_keys(where: Path, loaded: dict[str, Any]) -> None:
    """ValueError for weights that are missing, that the model does not have, or that have another shape."""
    missing, unexpected = sorted(loaded["missing_keys"]), sorted(loaded["unexpected_keys"])
    shapes = [f"{name} {tuple(found)} for {tuple(own)}" for name, found, own in loaded["mismatched_keys"]]
    found = [
        f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
        for what, names in (("of other shapes", shapes), ("missing", missing), ("of none of its layers", unexpected))
        if names
    ]
    if not found:
        return
    if any("lora" in name or "base_layer" in name for name in unexpected):
        advice = "it was saved with an adapter: call fuse_lora(), then unload_lora_weights(), and save it again"
    elif shapes:
        advice = "the weights are of a model of other widths (pruned ones?): save it with the configuration it has"
    else:
        advice = "get or save the model again, with the configuration it was made by"
    raise ValueError(f"{where}: the weights do not fit {CONFIG}: {'; '.join(found)}; {advice}")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ValueError, with what to do, for anything else."""
    try:
        data = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
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
                f"{name}: found NaN or infinity in {count} of its values, expected finite weights; get the model again"
            )


@torch.no_grad()
def encode_prompts(source: Source, prompts: Sequence[str], check: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts float32 [N, tokens, channels] of the prompts and of as many empty ones, by the pipeline's own text encoder.

    Tokens that the pipeline hides are not among them: each sample has its own as many times as fill the longest one's number.
    ValueError where it has none, or, with ``check``, where a prompt is too long for it (else it is cut).
    """
    _check_text_encoder(source)
    broken = (
        f"{source.folder}: its {source.pipeline} encodes no prompts",
        "mend the folder's text encoder and tokenizer",
    )
    with _naming_a_broken_part(source), explained(*broken):
        pipeline = DiffusionPipeline.from_pretrained(
            source.folder,
            **{source.component: source.denoiser},
            dtype=torch.float32,
            use_safetensors=True,
            variant=source.variant,
        )
    if check:
        check_prompts(pipeline, prompts)
    with explained(*broken):
        found = pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=True, num_images_per_prompt=1, device=torch.device("cpu")
        )
    tensors = [each for each in found if isinstance(each, torch.Tensor)]
    contexts = [each.float() for each in tensors if each.ndim == 3]
    masks = [each != 0 for each in tensors if each.ndim == 2]
    if len(contexts) != 2:
        raise ValueError(
            f"found {len(contexts)} contexts by {type(pipeline).__name__}, expected a prompt's and an empty one's"
        )
    guided, unguided = contexts[0], contexts[1].expand_as(contexts[0])
    if len(masks) != 2:  # Latte's: it pads several prompts with zeros, and leaves the padding of a single one out
        masks = [guided.abs().amax(dim=2) != 0] * 2
    tokens = max(int(mask.sum(dim=1).max()) for mask in masks)
    return kept_tokens(guided, masks[0], tokens), kept_tokens(unguided, masks[1], tokens)


@contextlib.contextmanager
def _naming_a_broken_part(source: Source) -> Iterator[None]:
    """Refuse a pipeline that does not load with the part that does not: diffusers names none."""
    try:
        yield
    except (ValueError, OSError, SafetensorError) as error:
        for name, (library, kind) in _parts(source).items():
            try:
                getattr(importlib.import_module(library), kind).from_pretrained(source.folder / name)
            except Exception as found:  # there is no end to what a broken file raises
                raise ValueError(
                    f"{source.folder / name} is no {kind} that can be read ({clause_of(found)}), so that its {source.pipeline} "
                    "encodes no prompts; get that folder of the model again"
                ) from found
        raise error


def _parts(source: Source) -> dict[str, list[str]]:
    """The pipeline's other parts that have files, by which class of which of the two libraries they are."""
    index = _read_index(source.folder)
    others = [name for name in source.components if name not in (source.component, "scheduler")]
    return {
        name: index[name]
        for name in others
        if index[name][0] in ("diffusers", "transformers") and (source.folder / name).is_dir()
    }


def kept_tokens(context: torch.Tensor, keep: torch.Tensor, tokens: int) -> torch.Tensor:
    """A context [N, T, channels] with those tokens that ``keep`` bool [N or 1, T] keeps alone, in turn: [N, ``tokens``,
    channels].

    So attention sees nothing that a mask hides, as in the drop-in; some tokens count once more than others, which ranges do not
    notice.
    """
    rows = zip(context, keep.expand(context.shape[:2]), strict=True)
    return torch.stack([row[mask][torch.arange(tokens) % int(mask.sum())] for row, mask in rows])


def _check_text_encoder(source: Source) -> None:
    parts = ("tokenizer", "text_encoder")
    kind = type(source.denoiser).__name__
    if not any(name in source.components for name in parts):
        raise ValueError(
            f"{source.folder}: its {kind} attends to contexts, and its pipeline ({source.pipeline or 'none'}) has no text "
            "encoder to make them; quantize the model in memory: ditto_zynq.quant.quantize.quantize_denoiser(..., context=...)"
        )
    missing = [name for name in parts if name not in source.components or not (source.folder / name).is_dir()]
    if missing:
        raise ValueError(
            f"{source.folder} has no {' and no '.join(missing)}, which its prompts need; add them to the folder"
        )
