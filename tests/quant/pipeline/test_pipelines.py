"""A pipeline's folder: weights, text parts and variants that are read, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from ditto_zynq.hls.artefact.model import Companions
from ditto_zynq.quant.common.options import Reading
from ditto_zynq.quant.pipeline.pipelines import load_source
from ditto_zynq.quant.quantize import quantize
from safetensors.torch import load_file, save_file

from tests.pipelines import save
from tests.quant.refusals import OPTIONS, SCHEDULE, WEIGHTS, change_json, move, prune, refuse, rename_weights, unet

WEIGHT_CASES = {
    "lora": (
        rename_weights("conv_in.", "conv_in.base_layer."),
        r"2 missing \(conv_in\.bias, .* call fuse_lora\(\), then unload_lora_weights\(\)",
    ),
    "missing": (
        rename_weights("conv_out.", "conv_last."),
        r"2 missing \(conv_out.*; 2 of none of its layers \(conv_last",
    ),
    "pruned": (prune, r"1 of other|2 of other shapes \(down_blocks.* of a model of other widths"),
    "wider": (unet(block_out_channels=[8, 16]), "weights do not fit config.json: .* of other shapes"),
    "fp16": (move(WEIGHTS, "unet/diffusion_pytorch_model.fp16.safetensors"), "variant 'fp16'; say --variant fp16"),
    "pickle": (move(WEIGHTS, "unet/diffusion_pytorch_model.bin"), "only pickles, .* safe_serialization=True"),
    "none": (lambda folder: (folder / WEIGHTS).unlink(), r"has no diffusion_pytorch_model\.safetensors; found none"),
    "no_scheduler": (lambda folder: shutil.rmtree(folder / "scheduler"), "has no scheduler/scheduler_config.json"),
}


@pytest.mark.parametrize("case", WEIGHT_CASES)
def test_weights_that_are_not_the_models(case, pixels, tmp_path):
    refuse(pixels, tmp_path, *WEIGHT_CASES[case])


@pytest.mark.parametrize("name", ["", ".safetensors.index.json"])
def test_a_variant_that_is_not_there_says_which_files_are(name, pixels, tmp_path):
    def change(folder: Path) -> None:
        if name:
            (folder / WEIGHTS).rename(folder / "unet" / f"diffusion_pytorch_model{name}")

    found = f"diffusion_pytorch_model{name or '.safetensors'}"
    message = rf"no diffusion_pytorch_model\.fp16\.safetensors; found only {found}, which is of no variant; leave --variant out"
    refuse(pixels, tmp_path, change, message, reading=Reading("fp16"))


INDEX_OF_SHARDS = "unet/diffusion_pytorch_model.safetensors.index.json"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"index\.json is not readable JSON"),
        ("{}", r"index\.json has no weight_map of keys to files; get the model again"),
        ('{"weight_map": {"a": "b.safetensors"}}', r"index\.json lists b\.safetensors, which is not there"),
    ],
)
def test_an_index_of_shards_that_is_none_is_named(content, message, pixels, tmp_path):
    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / INDEX_OF_SHARDS).write_text(content)

    refuse(pixels, tmp_path, change, message)


def test_weights_that_are_no_safetensors(pixels, tmp_path):
    refuse(pixels, tmp_path, lambda folder: (folder / WEIGHTS).write_bytes(b"x"), "unet.* get .*again")


def encode(folder: Path) -> None:
    from ditto_zynq.quant.pipeline.pipelines import encode_prompts

    encode_prompts(load_source(folder), ["a"])


def test_contexts_without_a_text_encoder(text, tmp_path):
    """As a DDPMPipeline of a UNet2DConditionModel: there is no tokenizer that could be added."""
    change = change_json(
        "model_index.json", _class_name="DDPMPipeline", tokenizer=[None, None], text_encoder=[None, None]
    )
    shutil.copytree(text, tmp_path / "float")
    change(tmp_path / "float")
    with pytest.raises(
        ValueError, match=r"its UNet2DConditionModel attends to contexts, and its pipeline \(DDPMPipeline\)"
    ):
        encode(tmp_path / "float")


@pytest.mark.parametrize(
    "change",
    [
        change_json("text_encoder/config.json", hidden_size=64),
        change_json("model_index.json", _class_name="FooPipeline"),
        lambda folder: [path.unlink() for path in (folder / "tokenizer").iterdir()],
    ],
)
def test_text_parts_that_do_not_work_are_one_line(change, text, tmp_path):
    shutil.copytree(text, tmp_path / "float")
    change(tmp_path / "float")
    with pytest.raises(
        ValueError, match=r"encodes no prompts.*; (mend the folder's text encoder|get that folder of the model again)"
    ) as error:
        encode(tmp_path / "float")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer"])
def test_a_part_that_does_not_load_is_named(part, text, tmp_path):
    shutil.copytree(text, tmp_path / "float")
    for path in (tmp_path / "float" / part).iterdir():
        path.write_bytes(b"{")
    with pytest.raises(
        ValueError, match=rf"float/{part} is no \w+ that can be read .* get that folder of the model again"
    ) as error:
        encode(tmp_path / "float")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("index", [True, False])
def test_a_models_own_folder_is_a_pipeline(pixels, tmp_path, index):
    """As the hub's google/ddpm-cifar10-32: configuration, weights and scheduler in the root."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (*(pixels / "unet").iterdir(), *(pixels / "scheduler").iterdir()):
        shutil.copyfile(path, flat / path.name)
    if index:
        shutil.copyfile(pixels / "model_index.json", flat / "model_index.json")
    expected = quantize(pixels, tmp_path / "expected", SCHEDULE, OPTIONS)
    found = quantize(flat, tmp_path / "found", SCHEDULE, OPTIONS)
    assert found.scales.keys() == expected.scales.keys()
    assert all((found.tables[name] == table).all() for name, table in expected.tables.items())
    assert (tmp_path / "found" / "unet" / "graph.json").is_file()
    assert (tmp_path / "found" / "model_index.json").is_file() == index


def test_a_variant_and_a_sample_size_are_read(pixels, tmp_path):
    shutil.copytree(pixels, tmp_path / "float")
    half = {name: value.half() for name, value in load_file(tmp_path / "float" / WEIGHTS).items()}
    save_file(half, tmp_path / "float" / "unet/diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
    (tmp_path / "float" / WEIGHTS).unlink()
    unet(sample_size=None)(tmp_path / "float")
    source = load_source(tmp_path / "float", "fp16", (8, 16))
    assert source.denoiser.config.sample_size == [8, 16]
    assert torch.equal(source.denoiser.conv_in.weight, half["conv_in.weight"].float())
    assert Reading("fp16", (8, 16)).sample_size == (8, 16)
    with pytest.raises(ValueError, match="found sample size 0"):
        Reading(sample_size=(0, 8))


def test_a_square_size_is_one_number(tmp_path):
    """Transformers take no other."""
    save("dit", tmp_path / "float")
    assert load_source(tmp_path / "float", None, (8, 8)).denoiser.config.sample_size == 8


def test_other_parts_of_a_variant_are_copied_under_plain_names(text, tmp_path):
    shutil.copytree(text / "vae", tmp_path / "vae")
    plain, half = (
        tmp_path / "vae/diffusion_pytorch_model.safetensors",
        tmp_path / "vae/diffusion_pytorch_model.fp16.safetensors",
    )
    half.write_bytes(b"half")
    index = tmp_path / "vae/model.safetensors.index.fp16.json"
    index.write_text('{"weight_map": {"a": "model.fp16-00001-of-00002.safetensors"}}')
    copied = Companions(tmp_path, ("vae",), "fp16").copy_to(tmp_path / "copy")
    assert (tmp_path / "copy" / "vae" / plain.name).read_bytes() == b"half"
    written = (tmp_path / "copy/vae/model.safetensors.index.json").read_text()
    assert json.loads(written) == {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    assert sorted(copied) == sorted(
        str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*.*")
    )
