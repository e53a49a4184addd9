"""The quantized model on disk: what is written is read back, and values that no run could have are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ditto_zynq.hls.artefact.model import SCHEDULER, ArtefactError, Companions, load, save

from tests.hls.artefact.tampering import CONFIG, GRAPH, TABLES, WEIGHTS, changed_json, quantization, rehash


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


def test_saving_through_a_link_and_into_the_current_folder(tiny_model, tmp_path, monkeypatch):
    link, folder = tmp_path / "link", tmp_path / "models" / "one"
    link.symlink_to(folder)
    for _ in range(2):
        save(tiny_model, link)
        assert link.is_symlink() and load(folder).digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "models"], "temporary folders were left"
    assert [path.name for path in folder.parent.iterdir()] == ["one"]
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    save(tiny_model, Path("."))
    assert load(tmp_path / "current").digest


@pytest.mark.parametrize("kind", ["circle", "mount"])
def test_places_that_no_folder_can_take(tiny_model, tmp_path, monkeypatch, kind):
    folder = tmp_path / "model"
    if kind == "circle":
        folder.symlink_to(folder)
    else:
        folder.mkdir()
        monkeypatch.setattr("os.path.ismount", lambda path: str(path) == str(folder))
    with pytest.raises(
        ArtefactError, match=r"exists and is no quantized model; give|is a mount point, .* give a folder in"
    ):
        save(tiny_model, folder)


def test_a_failed_save_leaves_nothing(tiny_model, tmp_path, monkeypatch):
    import safetensors.numpy

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(tiny_model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_the_graph(tiny_folder):
    from safetensors.numpy import load_file, save_file

    weights = load_file(tiny_folder / WEIGHTS)
    name = next(iter(weights))
    save_file({**weights, name: weights[name].astype(np.float32)}, tiny_folder / WEIGHTS)
    rehash(tiny_folder)
    with pytest.raises(ArtefactError, match=r"weight: found float32 .*, expected int8"):
        load(tiny_folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (GRAPH, lambda d: d.update(labels=10**9), "labels: found 1000000000, expected an integer from 1 to"),
        (GRAPH, lambda d: d.update(group_of_step=[0] * 10**5), "group_of_step: found .*of length 1 to"),
        (GRAPH, lambda d: d.update(nodes={}), r"nodes: found \{\}, expected a list"),
        (GRAPH, lambda d: d["nodes"].append([]), r"found operator \[\], expected one of Convolution"),
        (GRAPH, lambda d: d["nodes"][0].update(op=["Add"]), r"found operator \['Add'\], expected one of"),
        (
            GRAPH,
            lambda d: d["nodes"][0].update(stride=[0, 1]),
            r"stride\[0\]: found 0, expected an integer from 1 to 255",
        ),
        (GRAPH, lambda d: d["nodes"][0].update(padding=[1, 1, 1, 300]), r"padding\[3\]: found 300"),
        (GRAPH, lambda d: d["nodes"][0].update(relu=1), "relu: found 1, expected true or false"),
        (GRAPH, lambda d: d["nodes"][0].update(inputs=[]), "found 0 inputs of a Convolution, expected 1"),
        (GRAPH, lambda d: d["tensors"].append(d["tensors"][0]), "found tensor 'sample' twice"),
        (GRAPH, lambda d: d.update(input="conv_in"), "input 'conv_in' is no tensor of codes"),
        (GRAPH, lambda d: d.update(input_layout=[[["h", 4, 1]], [["w", 8, 1]]]), "found a layout of"),
        (
            GRAPH,
            lambda d: d.update(input_layout=[[["z", 4, 1]]]),
            "found 'z', expected printable text that is one of h, w, c",
        ),
        (SCHEDULER, lambda d: d.update(num_train_timesteps=10**9), "num_train_timesteps: found 1000000000"),
        (SCHEDULER, lambda d: d.update(_class_name="DiffusionPipeline"), "_class_name: found 'DiffusionPipeline'"),
        (CONFIG, quantization(eta=31), "eta: found 31, expected a finite number from 0 to 1"),
        (CONFIG, quantization(timesteps=[True] * 6), r"timesteps\[0\]: found True, expected a finite number"),
        (CONFIG, quantization(timesteps=[-1, 1, 2, 3, 4, 5]), r"timesteps\[0\]: found -1"),
        (CONFIG, quantization(timesteps=[0]), "the schedule has 1 timesteps and the integer graph 6 steps"),
        (CONFIG, quantization(steps=5), "found 6 timesteps in 5 steps of 'ddim', expected 5; quantize the model again"),
        (CONFIG, quantization(steps=8000), "found 6 timesteps in 8000 steps of 'ddim', expected 8000"),
        (CONFIG, quantization(steps=7, scheduler="pndm"), "found 6 timesteps in 7 steps of 'pndm', expected 7 to 23"),
        (CONFIG, quantization(steps=1, scheduler="ddpm"), "found 6 timesteps in 1 steps of 'ddpm', expected 1"),
        (CONFIG, quantization(labels=[0, 0, 1]), "found 2 different labels, expected 3"),
        (CONFIG, quantization(scheduler=None), "scheduler: found None, expected printable text"),
        (
            CONFIG,
            lambda d: d["quantization_config"].pop("steps"),
            "found no steps, expected scheduler, timesteps, eta, steps",
        ),
        (
            CONFIG,
            lambda d: d["quantization_config"].pop("eta"),
            "found no eta, expected scheduler, timesteps, eta, steps",
        ),
        (CONFIG, quantization(steps=10**9), "steps: found 1000000000, expected an integer from 1 to"),
        (CONFIG, quantization(added_cond_kwargs=[1]), r"added_cond_kwargs: found \[1\], expected an object"),
        (CONFIG, quantization(added_cond_kwargs={"a": ["x"]}), r"'a'\[0\]: found 'x', expected a finite number"),
        (CONFIG, lambda d: d.pop("quantization_config"), "found no scheduler, expected scheduler, timesteps"),
        (CONFIG, lambda d: d.update(quantization_config=[]), r"quantization_config: found \[\], expected an object"),
        (CONFIG, lambda d: d.update(sample_size="x" * 10**6), "sample_size: found 'xxx"),
    ],
)
def test_values_that_are_not_legal(tiny_folder, name, change, message):
    changed_json(tiny_folder, name, change)
    with pytest.raises(ArtefactError, match=message) as caught:
        load(tiny_folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_no_labels_are_all_labels(tiny_folder):
    changed_json(tiny_folder, CONFIG, quantization(labels=None))
    assert load(tiny_folder).labels == (0, 1, 2)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("conv_in.bias", lambda t: t.astype(np.float32), r"found float32 .*, expected int32"),
        ("conv_in.bias", lambda t: t[..., :-1], "conv_in.bias: found int32"),
        ("conv_in.bias", lambda t: np.full_like(t, 2**31 - 1), "conv_in: accumulators may reach .*more than int32"),
        ("conv_in.shift", lambda t: t + 64, "conv_in.shift: found .*, expected 0 to 62"),
        ("conv_in.shift", lambda t: t - 64, "conv_in.shift: found -"),
        ("conv_norm_out.gain_bits", lambda t: t + 200, "gain_bits: found .*, expected 0 to 28"),
        ("conv_norm_out.gain", lambda t: t + 2**22, "gain: found .*, expected -2097152 to 2097152"),
        ("conv_norm_out.epsilon", lambda t: t - 2**62, "epsilon: found -.*, expected 1 to"),
        ("conv_norm_out.epsilon", lambda t: np.full_like(t, 2**63 - 1), "epsilon: found 9223372036854775807"),
        ("scale:sample", lambda t: t * np.nan, "scale of sample: found nan"),
        ("scale:sample", lambda t: -t, "scale of sample: found -"),
        ("scale:sample", lambda t: t * 1e-300, "scale of sample: found .*expected 1e-30 to"),
        ("scale:sample", lambda t: t[:1], r"scale of sample: found float64 \(1,\), expected float64 \(3,\)"),
        ("conv_in.bias", None, "found no table conv_in.bias, expected int32"),
        ("surprise", lambda t: np.zeros(1), "found a table 'surprise', which no part of the graph has"),
        (
            "example_contexts",
            lambda t: np.zeros((2, 1, 1), np.int8),
            "found example_contexts of .* of the graph's context",
        ),
    ],
)
def test_tables_that_are_not_legal(tiny_folder, table, change, message):
    from safetensors.numpy import load_file, save_file

    tables = load_file(tiny_folder / TABLES)
    old = tables.pop(table, None)
    if change is not None:
        tables[table] = np.ascontiguousarray(change(old))
    save_file(tables, tiny_folder / TABLES)
    rehash(tiny_folder)
    with pytest.raises(ArtefactError, match=message):
        load(tiny_folder)


def test_weights_and_biases_that_could_leave_int32_are_refused_by_their_sum():
    """The bound that takes no look at the weights is not enough to refuse: their sum decides."""
    from ditto_zynq.hls.contract.operators import Convolution
    from ditto_zynq.hls.contract.operators.convolution import check_accumulators

    node, weight = Convolution("n", "m", ("x",), (1, 1)), np.zeros((2, 1, 1, 140_000), np.int8)
    bias = np.array([[0, 2**31 - 1]], np.int32)
    check_accumulators(node.name, weight, bias)
    weight[1, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="accumulators may reach 2147483775"):
        check_accumulators(node.name, weight, bias)


def test_companions_that_would_not_load_are_not_saved(tiny_model, tmp_path):
    (tmp_path / "float").mkdir()
    (tmp_path / "float" / "model_index.json").write_text(json.dumps({"_class_name": ["mod", "Class"]}))
    with pytest.raises(ArtefactError, match=r"_class_name: found \['mod', 'Class'\]"):
        save(tiny_model, tmp_path / "model", Companions(tmp_path / "float", ()))
    assert [path.name for path in tmp_path.iterdir()] == ["float"]


def test_what_would_not_load_is_not_saved(tiny_model, tmp_path):
    import dataclasses

    wrong = dataclasses.replace(tiny_model, quantization={**tiny_model.quantization, "eta": -1})
    with pytest.raises(ValueError, match="eta: found -1"):
        save(wrong, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
