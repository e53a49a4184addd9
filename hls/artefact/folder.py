"""The files of a model folder: which there are, that each is inside and unchanged, and JSON that is read without surprises."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ..common.limits import LARGEST_FILE, LARGEST_JSON, LONGEST_PATH, MOST_FILES
from ..common.schema import Illegal, Length, Matches, first_repeated, read, show

FORMAT = "ditto-zynq quantized model"
VERSION = 2
MANIFEST = "manifest.json"
COMPONENTS = ("unet", "transformer")
SCHEDULER = "scheduler/scheduler_config.json"
INDEX = "model_index.json"
COPIED = (
    ".json",
    ".safetensors",
    ".txt",
    ".model",
)  # of a pipeline's other parts: nothing that is unpickled or executed
UNSAFE = (".py", ".bin", ".pt", ".pth", ".ckpt", ".pkl")
PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
CHUNK = 1 << 20


class ArtefactError(ValueError):
    """Raised for a model folder that cannot be used; the message says what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Files:
    """Paths, in a model folder, of the denoiser that is its component ``name``."""

    name: str

    @property
    def config(self) -> str:
        """The float model's configuration, with what the quantization adds."""
        return f"{self.name}/config.json"

    @property
    def graph(self) -> str:
        """The integer graph."""
        return f"{self.name}/graph.json"

    @property
    def weights(self) -> str:
        """The int8 weights."""
        return f"{self.name}/diffusion_pytorch_model.safetensors"

    @property
    def tables(self) -> str:
        """The other tables, and the scales."""
        return f"{self.name}/tables.safetensors"

    @property
    def all(self) -> tuple[str, ...]:
        """All files of a model that has a denoiser only."""
        return self.config, self.graph, self.weights, self.tables, SCHEDULER


RelativePath = Annotated[str, Length(1, LONGEST_PATH)]
Word = Annotated[str, Matches(r"[A-Za-z0-9_.]{1,100}")]
Digest = Annotated[str, Matches("[0-9a-f]{64}")]


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds: format, version and the SHA-256 of every other file."""

    format: str
    version: int
    sha256: Annotated[Mapping[RelativePath, Digest], Length(1, MOST_FILES)]

    @property
    def files(self) -> Files:
        """The paths of the denoiser, which is the component that has an integer graph."""
        return next((Files(name) for name in COMPONENTS if Files(name).graph in self.sha256), Files(COMPONENTS[0]))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder. ArtefactError, in one line, for a folder that is no quantized model of this version."""
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is not a folder; expected a model made by 'ditto-zynq quantize'")
    path = folder / MANIFEST
    if not path.is_file():
        is_float = any((folder / name).is_dir() for name in COMPONENTS)
        hint = "it looks like a float diffusers model: " if is_float else ""
        raise ArtefactError(f"{folder} has no {MANIFEST}; {hint}run 'ditto-zynq quantize {folder} -o OUT' first")
    data = read_json(folder, MANIFEST)
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        found = f"{show(data.get('format'))} version {show(data.get('version'))}"
        raise ArtefactError(f"{folder}: found {found}, expected {FORMAT!r} version {VERSION}; quantize the model again")
    try:
        manifest: Manifest = read(Manifest, data, str(path))
    except Illegal as error:
        raise ArtefactError(f"{error}; copy or quantize the model again") from error
    for name in manifest.sha256:
        _check_inside(folder, name)
    expected = manifest.files.all
    missing = [name for name in expected if name not in manifest.sha256]
    others = [name for name in manifest.sha256 if name not in expected and Path(name).suffix not in COPIED]
    if missing or others:
        found = f"no {missing[0]}" if missing else f"a file {show(others[0])}"
        raise ArtefactError(f"{path}: found {found}, expected {', '.join(expected)} and copied parts; quantize again")
    return manifest


def check_kinds(folder: Path, manifest: Manifest) -> None:
    """ArtefactError where a listed file is missing, too large or a pickle, and for an index that names code."""
    for name in manifest.sha256:
        _check_file(folder / name)
    if INDEX in manifest.sha256:
        check_index(folder)


def check_files(folder: Path, manifest: Manifest) -> None:
    """ArtefactError as of :func:`check_kinds`, where a listed file was changed, and where one that a pipeline would read is not
    listed."""
    try:
        check_kinds(folder, manifest)
        for name in _unlisted(folder, manifest):
            raise ArtefactError(
                f"{folder}: found {show(name)}, which {MANIFEST} does not list; remove it, or quantize the model again"
            )
        for name, digest in manifest.sha256.items():
            if sha256_of(folder / name) != digest:
                raise ArtefactError(
                    f"{folder / name} is not the file that {MANIFEST} lists (another SHA-256); copy or quantize again"
                )
    except OSError as error:  # no rights, a name that is too long, a disk that fails
        where = show(str(error.filename or folder))
        raise ArtefactError(f"{where} cannot be read ({error.strerror}); copy or quantize again") from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ArtefactError(f"{path} is missing; copy or quantize the model again")
    if path.stat().st_size > LARGEST_FILE:
        raise ArtefactError(f"{path} has {path.stat().st_size} bytes, expected at most {LARGEST_FILE}")
    with path.open("rb") as file:
        start = file.read(9)  # of safetensors a length, which may be any, and a JSON object
    if path.suffix == ".safetensors" and start.startswith(PICKLES) and start[8:] != b"{":
        raise ArtefactError(f"{path} is a pickle, expected safetensors; pickles are never loaded: convert it")


def check_index(folder: Path, advice: str = "copy or quantize the whole pipeline again") -> None:
    """ArtefactError, with ``advice``, where the pipeline's index has other than its class, and for each part a library and a
    class of it."""
    for name, value in read_json(folder, INDEX).items():
        try:
            if name == "_class_name":
                read(Word, value, name)
            elif isinstance(value, list):
                read(tuple[Word | None, Word | None], value, show(name))
        except Illegal as error:
            raise ArtefactError(f"{folder / INDEX}: {error}; {advice}") from error


def _unlisted(folder: Path, manifest: Manifest) -> Iterator[str]:
    """What a pipeline could read or execute though it is not listed."""
    if INDEX not in manifest.sha256 and (folder / INDEX).exists():
        yield INDEX
    for part in sorted(folder.iterdir()):
        if part.name.startswith(".") or not part.is_dir():
            continue
        for root, folders, names in os.walk(part):
            for name in (*folders, *names):
                path = Path(root) / name
                relative = str(path.relative_to(folder))
                is_read = path.suffix in (*COPIED, *UNSAFE) and not path.is_dir()
                if (path.is_symlink() and path.is_dir()) or (is_read and relative not in manifest.sha256):
                    yield relative


def _check_inside(folder: Path, name: str) -> None:
    """ArtefactError where links, ``..`` or the name itself lead out of the folder."""
    try:
        leads_out = not (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle, a null byte
        leads_out = True
    if leads_out:
        raise ArtefactError(f"{folder / MANIFEST}: {show(name)} leads outside the model folder; do not use this model")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of UTF-8, no name in it twice. ArtefactError for anything else, and for more than LARGEST_JSON
    bytes."""
    path = folder / name
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_JSON + 1)
        if len(content) > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON} bytes")
        data = json.loads(content.decode("utf-8"), object_pairs_hook=_without_repetition)
    except RecursionError as error:
        raise ArtefactError(f"{path} is not readable JSON (nested too deep); do not use this model") from error
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} is not readable JSON ({error}); copy or quantize the model again") from error
    if not isinstance(data, dict):
        raise ArtefactError(f"{path}: found {type(data).__name__}, expected a JSON object; quantize the model again")
    return data


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = first_repeated(name for name, _ in pairs)
    if repeated is not None:
        raise ValueError(f"{show(repeated)} stands there twice")
    return dict(pairs)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object, with line breaks that let versions be compared."""
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in pieces: models are larger than memory should be."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()
