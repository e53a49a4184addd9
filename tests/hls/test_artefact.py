"""The quantized model on disk: what is written is read back, and anything else is refused in one line."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest
from ditto_zynq.hls.artefact import (
    MANIFEST,
    VERSION,
    ArtefactError,
    Files,
    load,
    save,
)

UNET = Files("unet")
CONFIG, GRAPH, TABLES, WEIGHTS, FILES = UNET.config, UNET.graph, UNET.tables, UNET.weights, UNET.all


def rehash(folder) -> None:
    """Make the manifest agree with changed files, as someone who tampers would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_round_trip(tiny_model, tiny_folder):
    loaded = load(tiny_folder)
    assert loaded.graph == tiny_model.graph
    assert set(loaded.tables) == set(tiny_model.tables)
    for name, table in tiny_model.tables.items():
        assert np.array_equal(loaded.tables[name], table) and loaded.tables[name].dtype == table.dtype
    assert all(np.array_equal(loaded.scales[name], scale) for name, scale in tiny_model.scales.items())
    assert loaded.timesteps == tiny_model.timesteps and loaded.quantization == tiny_model.quantization
    assert load(tiny_folder).digest == loaded.digest != ""


def test_bits_on_disk_are_the_bits_claimed(tiny_model, tiny_folder):
    parameters = sum(table.size for name, table in tiny_model.tables.items() if name.endswith(".weight"))
    header = int.from_bytes((tiny_folder / WEIGHTS).read_bytes()[:8], "little")
    assert (tiny_folder / WEIGHTS).stat().st_size == 8 + header + parameters


def test_config_is_diffusers_shaped(tiny_unet, tiny_folder):
    config = json.loads((tiny_folder / CONFIG).read_text())
    assert config["_class_name"] == "UNet2DModel"
    assert config["quantization_config"]["quant_method"] == "ditto_zynq"
    assert config["block_out_channels"] == list(tiny_unet.config.block_out_channels)


def test_saving_replaces_a_model_and_nothing_else(tiny_model, tmp_path):
    folder = tmp_path / "model"
    assert save(tiny_model, folder) == save(tiny_model, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "temporary folders were left"
    other = tmp_path / "photos"
    other.mkdir()
    (other / "holiday.png").write_bytes(b"x")
    with pytest.raises(ArtefactError, match="exists and is no quantized model; give another"):
        save(tiny_model, other)
    assert (other / "holiday.png").exists()


def test_a_failed_save_leaves_nothing(tiny_model, tmp_path, monkeypatch):
    import safetensors.numpy

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(tiny_model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


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


def test_a_pickle_is_never_loaded(tiny_folder):
    class Attack:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was executed",))

    for name in (WEIGHTS, TABLES):
        (tiny_folder / name).write_bytes(pickle.dumps(Attack()))
        rehash(tiny_folder)
        with pytest.raises(ArtefactError, match="is a pickle, expected safetensors; pickles are never loaded"):
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
    (tmp_path / "unet").mkdir()
    with pytest.raises(ArtefactError, match=r"looks like a float diffusers model: run 'ditto-zynq quantize"):
        load(tmp_path)


def test_weights_that_do_not_fit_the_graph(tiny_folder):
    from safetensors.numpy import load_file, save_file

    weights = load_file(tiny_folder / WEIGHTS)
    name = next(iter(weights))
    save_file({**weights, name: weights[name].astype(np.float32)}, tiny_folder / WEIGHTS)
    rehash(tiny_folder)
    with pytest.raises(ArtefactError, match=r"weight: found float32 .*, expected int8"):
        load(tiny_folder)
