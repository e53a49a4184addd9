"""The quantized model on disk: a diffusers-shaped folder of JSON and safetensors, with a version and content hashes.

    manifest.json                         format version, SHA-256 of every other file
    unet/config.json                      the float model's configuration, with ``quantization_config``
    unet/graph.json                       the integer graph
    unet/diffusion_pytorch_model.safetensors   int8 weights
    unet/tables.safetensors               per-step tables and scales
    scheduler/scheduler_config.json       the diffusers scheduler the model was quantized for
    vae/, text_encoder/, tokenizer/, model_index.json    what is JSON, safetensors or text of the pipeline's other parts

A transformer's folder is ``transformer/``. Only JSON and safetensors are read here: nothing in a model folder is ever executed
or unpickled. Weights are mapped, not read: a model takes the memory of what is looked at. This format is where ``quant`` and
``host`` meet, so it lives with the contract that both share.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ..common.limits import LONGEST_TEXT, MOST_CONDITIONS, MOST_EXAMPLES, MOST_LABELS, MOST_STEPS, MOST_TRAINED_STEPS
from ..common.schema import Length, Name, Range, Text, read, show
from ..contract.arithmetic import CODE_RANGE
from ..contract.graph import Graph
from ..contract.graph_json import graph_from_json, graph_to_json
from ..contract.table_rule import TableRule
from ..contract.table_rules import check_scales, check_tables
from ..contract.tensor import Size
from .folder import (
    COPIED,
    FORMAT,
    INDEX,
    MANIFEST,
    SCHEDULER,
    VERSION,
    ArtefactError,
    Files,
    check_files,
    check_kinds,
    read_json,
    read_manifest,
    sha256_of,
    write_json,
)
from .replace import replacing
from .rule import Rule
from .scheduler_config import SchedulerConfig
from .tensor_file import read_tensors
from .weights import loaded_weights, stored_weights

SCALE_PREFIX = "scale:"
EXAMPLES = "example_contexts"
QUANTIZATION = "quantization_config"
ONE_EACH = ("ddpm", "ddim")  # schedulers whose steps are one evaluation each
MOST_OF_RUNGE_KUTTA = 9  # evaluations beyond a schedule's steps
Timestep = Annotated[float, Range(0, MOST_TRAINED_STEPS)]
Condition = Annotated[tuple[float, ...], Length(1, MOST_CONDITIONS)]


@dataclass(frozen=True)
class Companions:
    """A pipeline's parts beside the denoiser: folders ``names`` of ``folder``, and its index. Where weights have a ``variant``,
    such as fp16, the files of that one are copied, and under the plain name."""

    folder: Path
    names: tuple[str, ...]
    variant: str | None = None

    def copy_to(self, folder: Path) -> list[str]:
        """Copy all of them to ``folder``; returns the relative paths of the copies."""
        copies = {name: self._without_variant(name) for name in self.files()}
        for name, target in copies.items():
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            if target == name or not name.endswith(".json"):
                shutil.copyfile(self.folder / name, folder / target)
            else:  # an index names the files that the weights are in
                text = (self.folder / name).read_text(encoding="utf-8")
                (folder / target).write_text(self._without_variant(text), encoding="utf-8")
        return list(copies.values())

    def _without_variant(self, text: str) -> str:
        return text if self.variant is None else re.sub(rf"\.{re.escape(self.variant)}(?=[.-])", "", text)

    def files(self) -> list[str]:
        """The relative paths of what is copied."""
        found = [INDEX] if (self.folder / INDEX).is_file() else []
        for name in self.names:
            paths = sorted(path for path in (self.folder / name).rglob("*") if path.is_file() and path.suffix in COPIED)
            found += [str(path.relative_to(self.folder)) for path in paths]
        renamed = {self._without_variant(name) for name in found if self._without_variant(name) != name}
        return [name for name in found if name not in renamed]


@dataclass(frozen=True)
class Quantization:
    """What a run reads of ``quantization_config``; the rest says how the model was made."""

    scheduler: Annotated[str, Length(1, LONGEST_TEXT)]
    timesteps: Annotated[tuple[Timestep, ...], Length(1, MOST_STEPS)]
    eta: Annotated[float, Range(0, 1)]
    steps: Annotated[int, Range(1, MOST_STEPS)]
    labels: Annotated[tuple[Annotated[int, Range(0, MOST_LABELS)], ...], Length(1, MOST_LABELS)] | None = None
    guidance: Annotated[float, Range(-1e6, 1e6)] | None = None
    timestep_cond: Annotated[tuple[float, ...], Length(1, MOST_LABELS)] | None = None
    added_cond_kwargs: Annotated[Mapping[Name, Condition], Length(1, MOST_CONDITIONS)] | None = None
    rule: Rule | None = None


@dataclass(frozen=True)
class Denoiser:
    """What a run reads of the denoiser's own configuration."""

    _class_name: Text | None = None
    norm_type: Text | None = None
    num_embeds_ada_norm: Annotated[int, Range(0, MOST_LABELS)] | None = None
    sample_size: Size | tuple[Size, ...] | None = None
    video_length: Size | None = None
    in_channels: Size | None = None
    out_channels: Size | None = None


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized model for one schedule.

    ``tables`` holds the integer tables of ``graph`` (weights included), ``scales[tensor]`` float64 [groups]. ``config`` is
    the diffusers model configuration, ``scheduler`` the diffusers scheduler configuration, and ``quantization`` says how
    it was made: scheduler kind, eta, timesteps, step groups, calibration. ``component`` is the part of a pipeline that the
    model is; ``digest`` identifies the content. ``examples``: of a model that attends to a context, codes int8
    [N + 1, tokens, channels] of N prompts it was calibrated with, and last of the unguided branch.
    """

    graph: Graph
    tables: Mapping[str, np.ndarray]
    scales: Mapping[str, np.ndarray]
    config: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    quantization: Mapping[str, Any]
    digest: str = ""
    component: str = "unet"
    examples: np.ndarray | None = None

    @property
    def branches(self) -> int:
        """Samples that the model evaluates for each image under the conditions of calibration: two with guidance, which scales up
        to 1 are not, nor one that the model takes as an embedding."""
        guided = (self.quantization.get("guidance") or 0) > 1 and self.quantization.get("timestep_cond") is None
        return 2 if guided else 1

    @property
    def example_contexts(self) -> np.ndarray | None:
        """The ``examples`` as values float64 [N + 1, tokens, channels]; None where there are none."""
        if self.examples is None or self.graph.context is None:
            return None
        return self.graph.decode_context(self.examples, self.scales[self.graph.context][0])

    @property
    def timesteps(self) -> tuple[float, ...]:
        """The schedule's timesteps, one for each evaluation of the model."""
        return tuple(self.quantization["timesteps"])

    @property
    def labels(self) -> tuple[int, ...]:
        """The class labels that the rows of conditional tables stand for."""
        labels = self.quantization.get("labels")
        return tuple(range(self.graph.labels) if labels is None else labels)


def null_label(config: Mapping[str, Any]) -> int | None:
    """The label that stands for "no class" to diffusers' transformers, by their configuration; other models name none."""
    return config.get("num_embeds_ada_norm") if config.get("norm_type") == "ada_norm_zero" else None


def check_output(folder: Path) -> None:
    """ArtefactError where ``folder``, or what it links to, exists and is no quantized model, nor empty; and for a mount point."""
    target = Path(os.path.realpath(folder))
    replaceable = (
        not target.exists() or (target / MANIFEST).is_file() or (target.is_dir() and not any(target.iterdir()))
    )
    if not replaceable or target.is_symlink():  # a link still: they lead in a circle
        raise ArtefactError(f"{folder} exists and is no quantized model; give another output folder")
    if os.path.ismount(target):
        raise ArtefactError(f"{folder} is a mount point, whose place no other folder can take; give a folder in it")


def save(model: QuantizedModel, folder: Path, companions: Companions | None = None) -> str:
    """Write ``model`` to ``folder``, replacing a quantized model that is there; return its digest.

    ``companions`` are copied beside it. Everything is written beside the target and renamed at the end. Raises ArtefactError
    where ``folder`` exists and is something else.
    """
    from safetensors.numpy import save_file

    folder, files = Path(folder), Files(model.component)
    check_output(folder)
    check_model(model)
    with replacing(folder) as temporary:
        for sub in (model.component, "scheduler"):
            (temporary / sub).mkdir()
        weights = {f"{node.name}.{node.weight_table}" for node in model.graph.linear_nodes if node.weight_table}
        tables = {name: table for name, table in model.tables.items() if name not in weights}
        tables |= {f"{SCALE_PREFIX}{name}": scale for name, scale in model.scales.items()}
        tables |= {} if model.examples is None else {EXAMPLES: model.examples}
        stored = stored_weights(model.graph, {name: model.tables[name] for name in sorted(weights)})
        save_file(stored, temporary / files.weights)
        save_file({name: tables[name] for name in sorted(tables)}, temporary / files.tables)
        write_json(temporary / files.config, {**model.config, QUANTIZATION: dict(model.quantization)})
        write_json(temporary / files.graph, graph_to_json(model.graph))
        write_json(temporary / SCHEDULER, dict(model.scheduler))
        copied = companions.copy_to(temporary) if companions else []
        if (
            INDEX in copied and "_class_name" in model.config
        ):  # what the drop-in stands for, whatever class was quantized
            index = read_json(temporary, INDEX)
            if model.component in index and index[model.component][1] != model.config["_class_name"]:
                write_json(temporary / INDEX, index | {model.component: ["diffusers", model.config["_class_name"]]})
        hashes = {name: sha256_of(temporary / name) for name in (*files.all, *copied)}
        write_json(temporary / MANIFEST, {"format": FORMAT, "version": VERSION, "sha256": hashes})
        check_kinds(temporary, read_manifest(temporary))  # what would not load is not left
    return _digest(hashes, files)


def load(folder: Path | str) -> QuantizedModel:
    """Read and check a quantized model. Raises ArtefactError in one line for anything that is not one, whole and unchanged.

    What loads can be run: its graph, tables, scales and schedule are such that no implementation overflows or reads beyond.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    files = manifest.files
    config = read_json(folder, files.config)
    quantization = config.pop(QUANTIZATION, {})
    try:
        graph = graph_from_json(read_json(folder, files.graph))
    except ArtefactError:
        raise
    except ValueError as error:
        raise ArtefactError(f"{folder / files.graph}: {error}; quantize the model again") from error
    stored = read_tensors(folder / files.tables)
    weights = read_tensors(folder / files.weights)
    twice = sorted(stored.keys() & weights.keys())
    if twice:
        raise ArtefactError(f"{folder}: found {twice[0]!r} among tables and weights, expected it once; quantize again")
    examples = stored.pop(EXAMPLES, None)
    scales = {name[len(SCALE_PREFIX) :]: array for name, array in stored.items() if name.startswith(SCALE_PREFIX)}
    tables = {name: array for name, array in stored.items() if not name.startswith(SCALE_PREFIX)}
    scheduler = read_json(folder, SCHEDULER)
    try:
        model = QuantizedModel(
            graph=graph,
            tables=tables | loaded_weights(graph, weights),
            scales=scales,
            config=config,
            scheduler=scheduler,
            quantization=quantization,
            digest=_digest(manifest.sha256, files),
            component=files.name,
            examples=examples,
        )
        check_model(model)
    except ValueError as error:
        raise ArtefactError(f"{folder}: {error}; quantize the model again") from error
    return model


def check_model(model: QuantizedModel) -> None:
    """ValueError where parts of a model do not fit each other or have illegal values. The graph is checked already."""
    graph = model.graph
    read(Denoiser, model.config, "the denoiser's configuration", others=True)
    SchedulerConfig.of(model.scheduler)
    found: Quantization = read(Quantization, model.quantization, QUANTIZATION, others=True)
    if len(found.timesteps) != graph.steps:
        raise ValueError(f"the schedule has {len(found.timesteps)} timesteps and the integer graph {graph.steps} steps")
    _check_steps(found)
    if found.labels is not None and (len(found.labels) != graph.labels or len(set(found.labels)) != graph.labels):
        raise ValueError(f"found {len(set(found.labels))} different labels, expected {graph.labels}, as in the graph")
    check_tables(graph, model.tables)
    check_scales(graph, model.scales)
    if model.examples is not None:
        _check_examples(graph, model.examples)


def _check_steps(found: Quantization) -> None:
    """ValueError where no scheduler has these timesteps in as many steps: ddpm and ddim one each, others one or two, and PNDM
    with Runge-Kutta nine more."""
    most = found.steps if found.scheduler in ONE_EACH else 2 * found.steps + MOST_OF_RUNGE_KUTTA
    if not found.steps <= len(found.timesteps) <= most:
        expected = found.steps if most == found.steps else f"{found.steps} to {most}"
        raise ValueError(
            f"{QUANTIZATION}: found {len(found.timesteps)} timesteps in {found.steps} steps of {show(found.scheduler)}, "
            f"expected {expected}"
        )


def _check_examples(graph: Graph, examples: np.ndarray) -> None:
    if graph.context is None or examples.ndim != 3 or not 2 <= len(examples) <= MOST_EXAMPLES:
        raise ValueError(f"found {EXAMPLES} of {examples.shape}, expected 2 to {MOST_EXAMPLES} of the graph's context")
    height, width, channels = graph.tensors[graph.context].shape
    TableRule((np.dtype(np.int8),), (len(examples), height * width, channels), *CODE_RANGE).check(EXAMPLES, examples)


def _digest(hashes: Mapping[str, str], files: Files) -> str:
    """A digest of the denoiser's own files, by which models are told apart: it is what their samples depend on."""
    own = {name: value for name, value in hashes.items() if name in files.all}
    return hashlib.sha256(json.dumps(dict(sorted(own.items()))).encode()).hexdigest()[:16]
