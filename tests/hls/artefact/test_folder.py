"""The files of a model folder: those that are missing, changed, elsewhere or not listed are refused in one line."""

from __future__ import annotations

import json
import shutil

import pytest
from ditto_zynq.hls.artefact.model import MANIFEST, VERSION, ArtefactError, load

from tests.hls.artefact.tampering import FILES, GRAPH, WEIGHTS, listed, rehash


@pytest.mark.parametrize("name", FILES)
def test_missing_truncated_and_tampered_files(tiny_folder, name):
    path = tiny_folder / name
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), b""):
        path.write_bytes(broken)
        with pytest.raises(ArtefactError, match=r"not the file that manifest.json lists"):
            load(tiny_folder)
    path.unlink()
    with pytest.raises(ArtefactError, match="is missing; copy or quantize"):
        load(tiny_folder)


@pytest.mark.parametrize("name", FILES)
def test_garbage_with_a_matching_hash(tiny_folder, name):
    (tiny_folder / name).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{garbage garbage")
    rehash(tiny_folder)
    with pytest.raises(ArtefactError, match="not readable"):
        load(tiny_folder)


def test_paths_outside_the_folder(tiny_folder, tmp_path):
    manifest = json.loads((tiny_folder / MANIFEST).read_text())
    for name in ("../secret.safetensors", "/etc/hostname"):
        changed = {**manifest, "sha256": {**manifest["sha256"], name: "0" * 64}}
        (tiny_folder / MANIFEST).write_text(json.dumps(changed))
        with pytest.raises(ArtefactError, match="leads outside the model folder"):
            load(tiny_folder)
    (tiny_folder / MANIFEST).write_text(json.dumps(manifest))
    shutil.copy(tiny_folder / GRAPH, tmp_path / "graph.json")
    (tiny_folder / GRAPH).unlink()
    (tiny_folder / GRAPH).symlink_to(tmp_path / "graph.json")
    with pytest.raises(ArtefactError, match="leads outside the model folder"):
        load(tiny_folder)


def test_other_versions_and_formats(tiny_folder):
    manifest = json.loads((tiny_folder / MANIFEST).read_text())
    (tiny_folder / MANIFEST).write_text(json.dumps({**manifest, "version": VERSION + 1}))
    with pytest.raises(ArtefactError, match=rf"version {VERSION + 1}, expected .* version {VERSION}; quantize"):
        load(tiny_folder)
    (tiny_folder / MANIFEST).write_text("[]")
    with pytest.raises(ArtefactError, match="found list, expected a JSON object"):
        load(tiny_folder)


def test_what_is_no_model(tmp_path):
    with pytest.raises(ArtefactError, match="is not a folder; expected a model made by 'ditto-zynq quantize'"):
        load(tmp_path / "nowhere")
    (tmp_path / "transformer").mkdir()
    with pytest.raises(ArtefactError, match=r"looks like a float diffusers model: run 'ditto-zynq quantize"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'{"a": 1, "a": 2}', "'a' stands there twice"),
        ('{"input": "x"}'.encode("utf-16"), "not readable JSON .*utf-8"),
        (b'{"labels": ' + b"9" * 6000 + b"}", "is not readable JSON .Exceeds the limit"),
        (b" " * ((1 << 25) + 1), "more than 33554432 bytes"),
    ],
)
def test_json_with_surprises(tiny_folder, content, message):
    (tiny_folder / GRAPH).write_bytes(content)
    rehash(tiny_folder)
    with pytest.raises(ArtefactError, match=message):
        load(tiny_folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {f"{index}.json": "0" * 64 for index in range(200_000)},
            "sha256: found .*, expected an object of length 1 to 4096",
        ),
        ({"a.json": "x"}, "found 'x', expected printable text that matches"),
        ({"a\0.json": "0" * 64}, "expected printable text"),
        ({"n" * 300 + ".json": "0" * 64}, r"n\.json' cannot be read .File name too long"),
        ({"evil.py": "0" * 64}, "found a file 'evil.py', expected"),
    ],
    ids=["many", "digest", "null", "long", "code"],
)
def test_names_in_the_manifest(tiny_folder, names, message):
    listed(tiny_folder, **names)
    with pytest.raises(ArtefactError, match=message):
        load(tiny_folder)


@pytest.mark.parametrize(
    "name", ["model_index.json", "unet/evil.py", "vae/diffusion_pytorch_model.bin", "vae/config.json"]
)
def test_what_a_pipeline_would_read_is_listed(tiny_folder, name):
    (tiny_folder / "samples.png").write_bytes(b"x")  # pictures harm nobody
    load(tiny_folder)
    (tiny_folder / name).parent.mkdir(exist_ok=True)
    (tiny_folder / name).write_text("{}")
    with pytest.raises(ArtefactError, match=f"found '{name}', which manifest.json does not list"):
        load(tiny_folder)


def test_an_index_that_names_code(tiny_folder):
    (tiny_folder / "model_index.json").write_text(json.dumps({"_class_name": ["../../evil", "Pipeline"]}))
    listed(tiny_folder, **{"model_index.json": "0" * 64})
    rehash(tiny_folder)
    with pytest.raises(
        ArtefactError, match=r"_class_name: found \['../../evil', 'Pipeline'\], expected printable text"
    ):
        load(tiny_folder)


@pytest.mark.parametrize(("name", "target"), [(GRAPH, "graph.json"), (GRAPH, "/etc/passwd"), (WEIGHTS, "/dev/zero")])
def test_links(tiny_folder, name, target):
    (tiny_folder / name).unlink()
    (tiny_folder / name).symlink_to(target)
    with pytest.raises(
        ArtefactError, match=f"manifest.json: '{name}' leads outside the model folder; do not use this model"
    ):
        load(tiny_folder)
