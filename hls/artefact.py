"""The quantized model on disk: a diffusers-shaped folder of JSON and safetensors, with a version and content hashes.

    manifest.json                         format version, SHA-256 of every other file
    unet/config.json                      the float model's configuration, with ``quantization_config``
    unet/graph.json                       the integer graph
    unet/diffusion_pytorch_model.safetensors   int8 weights
    unet/tables.safetensors               per-step tables and scales
    scheduler/scheduler_config.json       the diffusers scheduler the model was quantized for
    vae/, text_encoder/, tokenizer/, model_index.json    the pipeline's other parts, as they were, if it has them

A transformer's folder is ``transformer/``. Only JSON and safetensors are read here: nothing in a model folder is ever executed
or unpickled. Weights are mapped, not read: a model takes the memory of what is looked at. This format is where ``quant`` and
``host`` meet, so it lives with the contract that both share.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .graph import Convolution, Graph

FORMAT = "ditto-zynq quantized model"
VERSION = 1
MANIFEST = "manifest.json"
COMPONENTS = ("unet", "transformer")
SCHEDULER = "scheduler/scheduler_config.json"
INDEX = "model_index.json"
SCALE_PREFIX = "scale:"
EXAMPLES = "example_contexts"
COPIED = (
    ".json",
    ".safetensors",
    ".txt",
    ".model",
)  # of the other parts: nothing that would have to be unpickled or executed
CHUNK = 1 << 20


@dataclass(frozen=True)
class Files:
    """Paths, in a model folder, of the denoiser that is its component ``name``."""

    name: str

    @property
    def config(self) -> str:
        return f"{self.name}/config.json"

    @property
    def graph(self) -> str:
        return f"{self.name}/graph.json"

    @property
    def weights(self) -> str:
        return f"{self.name}/diffusion_pytorch_model.safetensors"

    @property
    def tables(self) -> str:
        return f"{self.name}/tables.safetensors"

    @property
    def all(self) -> tuple[str, ...]:
        return self.config, self.graph, self.weights, self.tables, SCHEDULER


@dataclass(frozen=True)
class Companions:
    """A pipeline's parts beside the denoiser: folders ``names`` of ``folder``, and its index."""

    folder: Path
    names: tuple[str, ...]

    def files(self) -> list[str]:
        """Relative paths of what is copied."""
        found = [INDEX] if (self.folder / INDEX).is_file() else []
        for name in self.names:
            paths = sorted(path for path in (self.folder / name).rglob("*") if path.is_file() and path.suffix in COPIED)
            found += [str(path.relative_to(self.folder)) for path in paths]
        return found


class ArtefactError(ValueError):
    """A model folder that cannot be used; the message says what was found, what was expected and what to do."""


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
        """``examples`` as values, float64."""
        if self.examples is None or self.graph.context is None:
            return None
        return self.examples * self.scales[self.graph.context][0]

    @property
    def timesteps(self) -> tuple[float, ...]:
        return tuple(self.quantization["timesteps"])

    @property
    def labels(self) -> tuple[int, ...]:
        """The class labels that the rows of conditional tables stand for."""
        return tuple(self.quantization.get("labels", range(self.graph.labels)))


def check_output(folder: Path) -> None:
    """ArtefactError where ``folder`` exists and is no quantized model, nor empty."""
    if folder.exists() and not (folder / MANIFEST).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ArtefactError(f"{folder} exists and is no quantized model; give another output folder")


def save(model: QuantizedModel, folder: Path, companions: Companions | None = None) -> str:
    """Write ``model`` to ``folder``, replacing a quantized model that is there; return its digest.

    ``companions`` are copied beside it. Everything is written beside the target and renamed at the end. Raises ArtefactError
    where ``folder`` exists and is something else.
    """
    from safetensors.numpy import save_file

    folder, files = Path(folder), Files(model.component)
    check_output(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for sub in (model.component, "scheduler"):
            (temporary / sub).mkdir()
        weights = {f"{node.name}.weight" for node in model.graph.nodes if isinstance(node, Convolution)}
        tables = {name: table for name, table in model.tables.items() if name not in weights}
        tables |= {f"{SCALE_PREFIX}{name}": scale for name, scale in model.scales.items()}
        tables |= {} if model.examples is None else {EXAMPLES: model.examples}
        save_file({name: model.tables[name] for name in sorted(weights)}, temporary / files.weights)
        save_file({name: tables[name] for name in sorted(tables)}, temporary / files.tables)
        _write_json(temporary / files.config, {**model.config, "quantization_config": dict(model.quantization)})
        _write_json(temporary / files.graph, model.graph.to_json())
        _write_json(temporary / SCHEDULER, dict(model.scheduler))
        copied = companions.files() if companions else []
        for name in copied:
            assert companions is not None
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(companions.folder / name, temporary / name)
        names = (*files.all, *copied)
        hashes = {name: sha256_of(temporary / name) for name in names}
        _write_json(temporary / MANIFEST, {"format": FORMAT, "version": VERSION, "sha256": hashes})
        temporary.chmod(0o755)
        for name in names:
            (temporary / name).chmod(0o644)
        if folder.exists():
            discarded = temporary.with_name(temporary.name + ".old")
            os.rename(folder, discarded)
            os.rename(temporary, folder)
            shutil.rmtree(discarded)
        else:
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _digest(hashes, files)


def load(folder: Path | str) -> QuantizedModel:
    """Read and check a quantized model. Raises ArtefactError in one line for anything that is not one, whole and unchanged."""
    folder = Path(folder)
    manifest = _read_manifest(folder)
    for name, digest in manifest["sha256"].items():
        path = _inside(folder, name)
        if not path.is_file():
            raise ArtefactError(f"{path} is missing; copy or quantize the model again")
        _refuse_pickle(path)
        if sha256_of(path) != digest:
            raise ArtefactError(
                f"{path} is not the file that {MANIFEST} lists (another SHA-256); copy or quantize again"
            )
    files = _files_of(manifest)
    config = _read_json(folder / files.config)
    quantization = config.pop("quantization_config", {})
    try:
        graph = Graph.from_json(_read_json(folder / files.graph))
    except ValueError as error:
        raise ArtefactError(f"{folder / files.graph}: {error}") from error
    stored = _read_tensors(folder / files.tables)
    scales = {name[len(SCALE_PREFIX) :]: array for name, array in stored.items() if name.startswith(SCALE_PREFIX)}
    tables = {name: array for name, array in stored.items() if not name.startswith(SCALE_PREFIX)}
    examples = tables.pop(EXAMPLES, None)
    tables |= _read_tensors(folder / files.weights)
    model = QuantizedModel(
        graph,
        tables,
        scales,
        config,
        _read_json(folder / SCHEDULER),
        quantization,
        _digest(manifest["sha256"], files),
        files.name,
        examples,
    )
    _check_content(folder, model)
    return model


def _check_content(folder: Path, model: QuantizedModel) -> None:
    timesteps = model.quantization.get("timesteps")
    if not isinstance(timesteps, list) or len(timesteps) != model.graph.steps:
        raise ArtefactError(f"{folder}: the schedule and the integer graph differ in steps; quantize the model again")
    for node in model.graph.nodes:
        if isinstance(node, Convolution):
            weight = model.tables.get(f"{node.name}.weight")
            channels = model.graph.tensors[node.inputs[0]].shape[2]
            expected = (model.graph.tensors[node.name].shape[2], *node.kernel, channels)
            if weight is None or weight.shape != expected or weight.dtype != np.int8:
                found = "none" if weight is None else f"{weight.dtype} {weight.shape}"
                raise ArtefactError(
                    f"{folder}: {node.name} has weights {found}, expected int8 {expected}; quantize again"
                )


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is not a folder; expected a model made by 'ditto-zynq quantize'")
    if not (folder / MANIFEST).is_file():
        hint = "it looks like a float diffusers model: " if (folder / "unet").is_dir() else ""
        raise ArtefactError(f"{folder} has no {MANIFEST}; {hint}run 'ditto-zynq quantize {folder} -o OUT' first")
    manifest = _read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        found = f"{manifest.get('format')!r} version {manifest.get('version')!r}"
        raise ArtefactError(f"{folder}: found {found}, expected {FORMAT!r} version {VERSION}; quantize the model again")
    listed = manifest.get("sha256")
    if not isinstance(listed, dict):
        raise ArtefactError(f"{folder / MANIFEST}: found no list of files; quantize the model again")
    for name in listed:
        _inside(folder, name)
    expected = _files_of(manifest).all
    others = [name for name in listed if name not in expected and Path(name).suffix not in COPIED]
    if others or not set(expected) <= set(listed):
        raise ArtefactError(
            f"{folder / MANIFEST}: found files {sorted(listed)}, expected {sorted(expected)}; quantize again"
        )
    return manifest


def _files_of(manifest: Mapping[str, Any]) -> Files:
    """Of the denoiser: the component that has an integer graph."""
    return next((Files(name) for name in COMPONENTS if Files(name).graph in manifest["sha256"]), Files(COMPONENTS[0]))


def _inside(folder: Path, name: str) -> Path:
    """The path of a listed file; symbolic links and ``..`` that lead out of the folder are refused."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ArtefactError(f"{folder / MANIFEST}: {name!r} leads outside the model folder; do not use this model")
    return path


def _refuse_pickle(path: Path) -> None:
    if path.suffix != ".safetensors":
        return
    with path.open("rb") as file:
        start = file.read(2)
    if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ArtefactError(f"{path} is a pickle, expected safetensors; pickles are never loaded: convert it")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} is not readable JSON ({error}); copy or quantize the model again") from error
    if not isinstance(data, dict):
        raise ArtefactError(f"{path}: found {type(data).__name__}, expected a JSON object; quantize the model again")
    return data


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Arrays that are mapped from the file (:func:`safetensors.numpy.load_file` would read it all)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:  # checks the header
            names = list(file.keys())
        with path.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            header = json.loads(raw.read(length))
        mapped = np.memmap(path, np.uint8, "r") if names else np.zeros(0, np.uint8)
        return {name: _mapped(mapped, header[name], 8 + length) for name in names}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ArtefactError(
            f"{path} is not readable safetensors ({error}); copy or quantize the model again"
        ) from error


SAFETENSORS_TYPES = {
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F32": np.float32,
    "F64": np.float64,
    "U8": np.uint8,
}


def _mapped(file: np.ndarray, entry: Mapping[str, Any], start: int) -> np.ndarray:
    first, end = entry["data_offsets"]
    dtype = np.dtype(SAFETENSORS_TYPES[entry["dtype"]]).newbyteorder("<")
    raw = file[start + first : start + end]
    aligned = raw if raw.ctypes.data % dtype.itemsize == 0 else raw.copy()
    return np.asarray(aligned).view(dtype).reshape(entry["shape"])


def sha256_of(path: Path) -> str:
    """Read in pieces: models are larger than memory should be."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _digest(hashes: Mapping[str, str], files: Files) -> str:
    """Of the denoiser's own files: what its samples depend on."""
    own = {name: value for name, value in hashes.items() if name in files.all}
    return hashlib.sha256(json.dumps(dict(sorted(own.items()))).encode()).hexdigest()[:16]
