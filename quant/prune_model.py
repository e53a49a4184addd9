"""Prune a trained pipeline's denoiser: choose channels, cut, and mend by distillation from the float model's own runs."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from ..hls.artefact.folder import INDEX
from ..hls.artefact.model import Companions
from ..hls.artefact.replace import replacing
from .calibrate.calibration import Conditions
from .common.options import LARGEST_SEED, Options, Reading, Schedule, check_whole
from .pipeline.conditions import check_context, choose_labels, conditions_of, guidance_for
from .pipeline.guidance_embedding import GUIDANCE, embedded_size, with_guidance
from .pipeline.pipelines import Source, encode_prompts, load_source, read_json
from .pipeline.schedule import check_class, scheduler_for, with_eta
from .pipeline.supported import check_variance
from .prune import blocks
from .prune.allocation import Grain, allocate, counter, filled, structure_of, widths_of_groups
from .prune.coupling import ChannelGroup, channel_groups
from .prune.criteria import CRITERIA, Filters
from .prune.distill import DistillationRecipe, distill
from .prune.macs import macs
from .prune.narrow import config_of, empty, narrow_kind, stock_kind
from .prune.surgery import kept_positions, transfer, widths_of
from .prune.trajectories import Examples, Runs, record
from .prune.work_folder import work_folder
from .quantize import PROMPTS, sample_shape_of

LAYER, BLOCK = "layer", "block"
REPORT = "pruning.json"
SCHEDULER_ALONE = "scheduler_config.json"  # beside a model that is no pipeline
GRADIENT_EXAMPLES, GRADIENT_BATCH = 256, 16


@dataclass(frozen=True)
class PruningOptions:
    """How a model is pruned. ``macs``: the share of its multiplications that is left, between 0 and 1. ``widths``: "layer", each
    its own, or "block", one for each block, as any diffusers loads it. ``criterion`` of :data:`.prune.criteria.CRITERIA`;
    ``steps`` of distillation and ``runs`` of the float model to learn from. ValueError for numbers that cannot be."""

    macs: float
    widths: str = LAYER
    criterion: str = "reprune"
    steps: int = 2_000
    runs: int = 256
    grain: Grain = Grain()  # noqa: RUF009 - frozen
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.macs, (int, float)) or not 0 < self.macs < 1:
            raise ValueError(
                f"found macs {self.macs!r}, expected the share of multiplications to keep, between 0 and 1"
            )
        for name, value, known in (
            ("widths", self.widths, (LAYER, BLOCK)),
            ("criterion", self.criterion, tuple(CRITERIA)),
        ):
            if value not in known:
                raise ValueError(f"found {name} {value!r}, expected one of {', '.join(known)}")
        check_whole("steps", self.steps, 0)
        check_whole("runs", self.runs, 1)
        check_whole("seed", self.seed, 0, LARGEST_SEED)


@dataclass(frozen=True)
class Cut:
    """A model that was pruned, before it is mended, and multiplications of both. ``left_out``: layers that it does not have at
    all: between blocks that have become equally wide, a stock model has no convolution in the shortcut."""

    model: nn.Module
    left_out: tuple[str, ...]
    macs: int
    dense_macs: int


@dataclass(frozen=True)
class Allotment:
    """Which ``widths`` the channel ``groups`` of a model get, by their names, as ``options`` ask. ``kind`` and ``config``: the
    class of the narrower model and its configuration; ``whole_heads``: whether a head of attention stays or goes as one.
    ``dense_macs``: the multiplications of a forward pass with ``inputs``, keyword arguments, before."""

    options: PruningOptions
    groups: tuple[ChannelGroup, ...]
    widths: Mapping[str, int]
    kind: type
    config: Mapping[str, Any]
    whole_heads: bool
    inputs: Mapping[str, Any]
    dense_macs: int


def allot(model: nn.Module, inputs: Mapping[str, Any], options: PruningOptions) -> Allotment:
    """How wide everything in a U-Net becomes. ``inputs``: keyword arguments of a forward pass of one example.

    ValueError, with the numbers, for a share of the multiplications that cannot be.
    """
    kind = narrow_kind(model)
    groups = tuple(channel_groups(copy.deepcopy(model), inputs))
    dense = macs(model, inputs)
    most = int(options.macs * dense)
    if options.widths == LAYER:
        widths = allocate(widths_of_groups(groups, model, options.grain), counter(model, groups, inputs), most)
        return Allotment(options, groups, widths, kind, config_of(model), True, inputs, dense)
    config = _block_config(model, groups, inputs, most, options.grain)
    widths = blocks.group_widths(groups, model, config)
    return Allotment(options, groups, widths, stock_kind(model), config, blocks.whole_heads(model), inputs, dense)


Gradients = Callable[[Sequence[ChannelGroup]], dict[str, tuple[np.ndarray, ...]]]


def cut(model: nn.Module, allotment: Allotment, gradients: Gradients | None = None) -> Cut:
    """Choose channels of a U-Net and leave the others out. ``gradients`` gives those of the groups' kernels, for a criterion that
    goes by them."""
    criterion, random = allotment.options.criterion, np.random.default_rng(allotment.options.seed)
    weighted = gradients(allotment.groups) if criterion == "taylor" and gradients else {}
    chosen = {}
    for group in allotment.groups:
        if allotment.widths[group.name] < group.size:
            structure = structure_of(group, model, allotment.whole_heads)
            filters = Filters(tuple(group.kernels(model)), structure, weighted.get(group.name))
            chosen[group.name] = CRITERIA[criterion](filters, allotment.widths[group.name], random)
    kept = kept_positions(model, allotment.groups, chosen)
    config = dict(allotment.config)
    if allotment.options.widths == LAYER:
        config["widths"] = dict(config.get("widths") or {}) | widths_of(model, kept)
    narrow: nn.Module = allotment.kind.from_config(config)  # type: ignore[attr-defined]
    transfer(model, narrow, kept, blocks.refitted_time_layer(model, narrow))
    there = dict(narrow.named_modules())
    left_out = tuple(path for path, _ in model.named_modules() if path not in there)
    return Cut(narrow.eval(), left_out, macs(narrow, allotment.inputs), allotment.dense_macs)


def _block_config(
    model: nn.Module, groups: Sequence[ChannelGroup], inputs: Mapping[str, Any], most: int, grain: Grain
) -> dict[str, Any]:
    if getattr(model.config, "widths", None):
        raise ValueError("found a model whose layers have widths of their own; prune it with --widths layer")

    def config_of(sizes: Mapping[str, int]) -> dict[str, Any]:
        return blocks.block_config(model, {int(index): size for index, size in sizes.items()})

    def count(sizes: Mapping[str, int]) -> int:
        try:
            return macs(empty(stock_kind(model), config_of(sizes)), inputs)
        except ZeroDivisionError as error:
            raise ValueError(
                f"found blocks of {', '.join(map(str, sizes.values()))} channels, fewer than a head has"
            ) from error

    widths = blocks.widths_of_blocks(groups, model, grain)
    return config_of(filled(widths, allocate(widths, count, most), count, most))


def prune_model(
    model: str | Path,
    out: Path,
    options: PruningOptions,
    schedule: Schedule | None = None,
    labels: Sequence[int] | None = None,
    prompts: Sequence[str] | None = None,
    reading: Reading | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Prune the denoiser of a diffusers pipeline (folder or hub name), and write a pipeline's folder to ``out``.

    ``schedule``, ``labels`` and ``prompts``: of the float model's runs that the pruned one learns from. What is recorded and
    trained lies in ``OUT.partial`` until it is done, and an interrupted call goes on there. Returns what ``out/pruning.json``
    says. ValueError, before any work, for what cannot be pruned, and for an output that exists and is no pruned model.
    """
    reading, schedule = reading or Reading(), schedule or Schedule(groups=1)
    _check_output(Path(out), overwrite)
    source = load_source(model, reading.variant, reading.sample_size)
    _check_place(source, Path(out))
    narrow_kind(source.denoiser)
    if not reading.force_scheduler:
        check_class(source.scheduler_class, schedule)
    runs = _runs(source, schedule, options, labels, prompts)
    allotment = allot(source.denoiser, runs.example(), options)
    teacher = _digest(source.denoiser.state_dict(), config_of(source.denoiser))
    settings = {
        "teacher": teacher,
        "runs": _digest(runs.arguments, source.scheduler),
        "shape": list(runs.sample_shape),
        "schedule": asdict(schedule),
        "options": asdict(options),
    }
    with work_folder(Path(f"{Path(out).resolve()}.partial"), settings) as work:
        report = _prune(source, runs, allotment, work, teacher) | {"labels": labels, "schedule": asdict(schedule)}
        _write(source, report.pop("model"), report, Path(out))
    return report


def _prune(source: Source, runs: Runs, allotment: Allotment, work: Path, teacher: str) -> dict[str, Any]:
    """The pruned ``model``, and what there is to say of it. ValueError where it says nothing that is finite."""
    options = allotment.options
    examples = record(source.denoiser, runs, work / "runs")
    found = cut(source.denoiser, allotment, lambda groups: _gradients(source.denoiser, groups, examples, options.seed))
    before = _error(found.model, examples)
    if options.steps:
        recipe = DistillationRecipe(
            steps=options.steps,
            decay_steps=max(options.steps // 3, 1),
            seed=options.seed,
            teacher=teacher,
            architecture=json.dumps(asdict(options)),
        )
        distill(found.model, recipe, examples.draw, len(examples), work / "training")
    after = _error(found.model, examples)
    if not math.isfinite(after):
        raise ValueError(
            "the pruned model's outputs are not finite; ask for more of the multiplications, or fewer --steps"
        )
    return {
        "model": found.model,
        "multiplications": {"dense": found.dense_macs, "pruned": found.macs, "share": found.macs / found.dense_macs},
        "parameters": {"dense": _parameters(source.denoiser), "pruned": _parameters(found.model)},
        "mean_square_error": {"cut": before, "distilled": after},
        "left_out": list(found.left_out),
        "options": asdict(options),
    }


def _runs(
    source: Source,
    schedule: Schedule,
    options: PruningOptions,
    labels: Sequence[int] | None,
    prompts: Sequence[str] | None,
) -> Runs:
    denoiser, interface = source.denoiser, source.interface
    chosen = choose_labels(denoiser, labels)
    guidance = None if embedded_size(denoiser) else guidance_for(denoiser, Options(), chosen, source.pipeline)
    context = None
    if isinstance(denoiser, UNet2DConditionModel) and not interface.context:
        raise ValueError("found a UNet2DConditionModel that attends to no context, expected a UNet2DModel of its kind")
    if interface.context:
        given = list(prompts or PROMPTS)
        context = encode_prompts(
            source, [given[i % len(given)] for i in range(options.runs)], check=prompts is not None
        )
        check_context(denoiser, context)
    elif prompts:
        raise ValueError(f"{source.folder} takes no prompts; leave them out")
    conditions = conditions_of(options.runs, denoiser, chosen, context, guidance)
    rows, contexts = conditions.branches()
    arguments: dict[str, torch.Tensor] = {}
    if embedded_size(denoiser):
        arguments["timestep_cond"] = torch.tensor(with_guidance(denoiser, GUIDANCE)[1]).expand(len(rows), -1).clone()
    if interface.labels:
        arguments[interface.labels] = torch.tensor(chosen)[rows]
    if interface.context and contexts is not None:
        arguments[interface.context] = contexts
    scheduler: Any = scheduler_for(source.scheduler, schedule)[0]  # refuses what cannot be, before any work
    config = {**config_of(denoiser), "_class_name": stock_kind(denoiser).__name__}
    check_variance(config, type(scheduler).__name__, scheduler.config)
    return Runs(
        arguments=arguments,
        count=options.runs,
        branches=1 if conditions.unguided is None else 2,
        guide=_guide(conditions),
        make_scheduler=lambda: with_eta(scheduler_for(source.scheduler, schedule)[0], schedule),
        sample_shape=sample_shape_of(denoiser),
        seed=options.seed,
    )


def _guide(conditions: Conditions) -> Callable[[torch.Tensor], torch.Tensor]:
    scale = conditions.guidance
    if conditions.unguided is None or scale is None:
        return lambda output: output

    def guided(output: torch.Tensor) -> torch.Tensor:
        with_condition, without = output.chunk(2)
        return without + scale * (with_condition - without)

    return guided


def _gradients(
    model: nn.Module, groups: Sequence[ChannelGroup], examples: Examples, seed: int
) -> dict[str, tuple[np.ndarray, ...]]:
    """Gradients of the outputs' products with noise: how a change of each weight would disturb what the model says."""
    probe = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randperm(len(examples), generator=generator)[:GRADIENT_EXAMPLES]
    for part in picked.split(GRADIENT_BATCH):
        output = probe(**examples.inputs(part)).sample
        (output * torch.randn(output.shape, generator=generator)).sum().backward()
    return {group.name: tuple(group.kernels(probe, gradients=True)) for group in groups}


@torch.no_grad()
def _error(model: nn.Module, examples: Examples, count: int = 512) -> float:
    """The mean square error of a model's outputs on some examples."""
    picked = torch.linspace(0, len(examples) - 1, min(count, len(examples))).long()
    total = 0.0
    for part in picked.split(32):
        inputs, wanted = examples.draw(part)
        total += float((model(**inputs).sample - wanted).square().mean()) * len(part)
    return total / len(picked)


def _write(source: Source, model: nn.Module, report: Mapping[str, Any], out: Path) -> None:
    """A copy of the pipeline's folder with the pruned denoiser in it."""
    with replacing(out) as folder:
        others = tuple(name for name in source.components if name != source.component)
        Companions(source.folder, (*others, "scheduler"), source.variant).copy_to(folder)
        if (source.folder / SCHEDULER_ALONE).is_file():
            shutil.copyfile(source.folder / SCHEDULER_ALONE, folder / SCHEDULER_ALONE)
        where = folder / source.component if (source.folder / INDEX).is_file() else folder
        model.save_pretrained(where)  # type: ignore[operator]
        if (source.folder / INDEX).is_file():
            index = read_json(source.folder / INDEX)
            index[source.component] = [_library(type(model)), type(model).__name__]
            (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        (folder / REPORT).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")


def _library(kind: type) -> str:
    return "diffusers" if kind.__module__.startswith("diffusers.") else kind.__module__


def _check_output(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / REPORT).is_file():
        raise ValueError(f"{out} exists and is no pruned model; give another output folder")
    if not overwrite:
        raise ValueError(f"{out} has a pruned model; say --overwrite to replace it, or give another output folder")


def _check_place(source: Source, out: Path) -> None:
    """ValueError for an output in a part of the pipeline, of which it would become a copy."""
    parts = {(source.folder / name).resolve() for name in source.components}
    if parts & {out.resolve(), *out.resolve().parents}:
        raise ValueError(f"{out} lies in a part of the pipeline {source.folder}; give an output folder of its own")


def _digest(tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> str:
    """Identifies a model, or what it is run with."""
    found = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in sorted(tensors.items()):
        found.update(name.encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
