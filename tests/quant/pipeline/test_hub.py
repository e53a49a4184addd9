"""Models of the hub, of which a folder on this machine takes the place: diffusers' own download and what it does not know."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from diffusers.pipelines import pipeline_utils
from ditto_zynq.quant.pipeline import pipelines
from ditto_zynq.quant.pipeline.pipelines import LONGEST_CLAUSE, clause_of, load_source
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from tests.pipelines import save

NAME = "somebody/model"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


class Missing(RepositoryNotFoundError):
    """As the hub answers; without a response of the network."""

    def __init__(self, name: str):
        OSError.__init__(self, f"{name} is not there")


class Hub:
    """One repository: the files of ``folder``. What is downloaded is copied to ``cache``."""

    def __init__(self, folder: Path, cache: Path):
        self.folder, self.cache = folder, cache

    def names(self, name: str, **_: object) -> list[str]:
        if name != NAME:
            raise Missing(name)
        return [str(path.relative_to(self.folder)) for path in sorted(self.folder.rglob("*")) if path.is_file()]

    def info(self, name: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=each) for each in self.names(name)])

    def file(self, name: str, file: str, **_: object) -> str:
        if file not in self.names(name):
            raise Missing(file)
        self._copy(file)
        return str(self.cache / file)

    def snapshot(self, name: str, allow_patterns=None, ignore_patterns=None, **_: object) -> str:
        for file in filter_repo_objects(
            self.names(name), allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        ):
            self._copy(file)
        return str(self.cache)

    def _copy(self, file: str) -> None:
        (self.cache / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder / file, self.cache / file)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    save("ddim", tmp_path / "repository")
    hub = Hub(tmp_path / "repository", tmp_path / "cache")
    monkeypatch.setattr(pipeline_utils, "_resolve_revision", lambda *_, **__: None)
    monkeypatch.setattr(pipeline_utils, "model_info", hub.info)
    monkeypatch.setattr(pipeline_utils, "hf_hub_download", hub.file)
    for module in (pipeline_utils, pipelines):
        monkeypatch.setattr(module, "snapshot_download", hub.snapshot)
    monkeypatch.setattr(pipelines, "list_repo_files", hub.names)
    monkeypatch.chdir(tmp_path)
    return hub


def flatten(folder: Path) -> None:
    """As ``google/ddpm-cifar10-32``, but without an index."""
    for part in ("unet", "scheduler"):
        for path in (folder / part).iterdir():
            path.rename(folder / path.name)
        (folder / part).rmdir()
    (folder / "model_index.json").unlink()


def test_a_pipeline(hub):
    (hub.folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    source = load_source(NAME)
    assert source.folder == hub.cache and source.component == "unet" and source.pipeline == "DDIMPipeline"
    assert not list(hub.cache.rglob("*.bin"))


@pytest.mark.parametrize("change", [flatten, lambda folder: (folder / "model_index.json").unlink()])
def test_a_model_without_an_index(change, hub):
    """Which diffusers' download refuses; nothing else of the repository comes along."""
    change(hub.folder)
    for name in ("README.md", "diffusion_pytorch_model.fp16.safetensors", "all.safetensors", "code.py"):
        (hub.folder / name).write_bytes(b"x")
    source = load_source(NAME)
    assert source.component == "unet" and source.scheduler["num_train_timesteps"] == 1000
    assert sorted(path.name for path in hub.cache.rglob("*") if path.is_file()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "scheduler_config.json",
    ]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("diffusion_pytorch_model.bin", "convert them"),
        ("diffusion_pytorch_model.fp16.safetensors", "--variant fp16"),
    ],
)
def test_weights_of_other_kinds_are_named_before_anything_is_downloaded(flat, name, advice, hub):
    (hub.folder / WEIGHTS).rename(hub.folder / "unet" / name)
    if flat:
        flatten(hub.folder)
    with pytest.raises(FileNotFoundError, match=rf"^{NAME}{'' if flat else '/unet'} has no .* found only .*{advice}"):
        load_source(NAME)
    assert not list(hub.cache.rglob("*model.*"))


def test_no_model_of_that_name(hub):
    with pytest.raises(FileNotFoundError, match="nobody/nothing is no folder, and no pipeline of the hub"):
        load_source("nobody/nothing")
    for path in hub.folder.rglob("*.json"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="is no folder, and no pipeline of the hub"):
        load_source(NAME)


@pytest.mark.parametrize("name", ["model", "a/b/c", "./nothing"])
def test_what_is_no_name_of_the_hub_is_refused_at_once(name, hub, monkeypatch):
    monkeypatch.delattr(pipelines.DiffusionPipeline, "download")
    with pytest.raises(
        FileNotFoundError, match=rf"{name} is no folder here, and no name of the hub, .* OWNER/NAME; give"
    ):
        load_source(name)


def test_an_error_is_one_clause():
    long = OSError(
        "404 Client Error. (Request ID: Root=1)\n\nRepository Not Found for url: https://hub/x.\nPlease log in."
    )
    assert clause_of(long) == "404 Client Error"
    assert clause_of(OSError()) == "OSError"
    assert len(clause_of(OSError("x" * 1000))) == LONGEST_CLAUSE
