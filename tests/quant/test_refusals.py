"""Folders that cannot be quantized, or not as asked: one line before any calibration, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from ditto_zynq.hls.artefact.model import Companions
from ditto_zynq.quant import quantize as quantizing
from ditto_zynq.quant.common.options import Options, Reading, Schedule
from ditto_zynq.quant.pipeline.pipelines import load_source
from ditto_zynq.quant.quantize import quantize, quantize_denoiser
from safetensors.torch import load_file, save_file

from tests.conftest import SCHEDULER_CONFIG
from tests.pipelines import save, unet2d

SCHEDULE, OPTIONS = Schedule("ddim", 2, 0.0, 1), Options(2, fine=0)
DDPM = Schedule("ddpm", 2, 0.0, 1)
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
Change = Callable[[Path], Any]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pixels") / "float"
    save("ddim", folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "float"
    save("stable_diffusion", folder)
    return folder


def late(*_: Any, **__: Any) -> None:
    raise AssertionError("the model was calibrated, or prompts were encoded, before it was refused")


def change_json(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def unet(**values: Any) -> Change:
    return change_json("unet/config.json", **values)


def scheduler(**values: Any) -> Change:
    return change_json("scheduler/scheduler_config.json", **values)


def rename_weights(old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        save_file(
            {name.replace(old, new): value for name, value in weights.items()}, folder / WEIGHTS, {"format": "pt"}
        )

    return change


def prune(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    name = "down_blocks.0.resnets.0.conv1"
    weights |= {f"{name}.weight": weights[f"{name}.weight"][:3], f"{name}.bias": weights[f"{name}.bias"][:3]}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def move(old: str, new: str) -> Change:
    return lambda folder: (folder / old).rename(folder / new)


def refuse(
    source: Path, tmp_path: Path, change: Change, message: str, schedule: Schedule = SCHEDULE, **more: Any
) -> None:
    shutil.copytree(source, tmp_path / "float")
    change(tmp_path / "float")
    with pytest.MonkeyPatch.context() as patch, pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        patch.setattr(quantizing, "calibrate", late)
        patch.setattr(quantizing, "encode_prompts", late)
        quantize(tmp_path / "float", tmp_path / "out", schedule, **{"options": OPTIONS, **more})
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["float"], "something was left behind"


WEIGHT_CASES = {
    "lora": (rename_weights("conv_in.", "conv_in.base_layer."),
             r"2 missing \(conv_in\.bias, .* call fuse_lora\(\), then unload_lora_weights\(\)"),
    "missing": (rename_weights("conv_out.", "conv_last."), r"2 missing \(conv_out.*; 2 of none of its layers \(conv_last"),
    "pruned": (prune, r"1 of other|2 of other shapes \(down_blocks.* of a model of other widths"),
    "wider": (unet(block_out_channels=[8, 16]), "weights do not fit config.json: .* of other shapes"),
    "fp16": (move(WEIGHTS, "unet/diffusion_pytorch_model.fp16.safetensors"), "variant 'fp16'; say --variant fp16"),
    "pickle": (move(WEIGHTS, "unet/diffusion_pytorch_model.bin"), "only pickles, .* safe_serialization=True"),
    "none": (lambda folder: (folder / WEIGHTS).unlink(), r"has no diffusion_pytorch_model\.safetensors; found none"),
    "no_scheduler": (lambda folder: shutil.rmtree(folder / "scheduler"), "has no scheduler/scheduler_config.json"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHT_CASES)
def test_weights_that_are_not_the_models(case, pixels, tmp_path):
    refuse(pixels, tmp_path, *WEIGHT_CASES[case])


CONFIGURATIONS = {
    "quantized": (unet(quantization_config={"quant_method": "bitsandbytes"}), "weights quantized by 'bitsandbytes'"),
    "quantized_by_name": (unet(quantization_config="int8"), "weights quantized by 'int8'"),
    "channels_of_text": (unet(in_channels="3"), "found in_channels '3', expected a number of at least 1"),
    "no_size": (unet(sample_size=None), "found sample_size None.* give --sample-size, such as"),
    "sdxl": (unet(addition_embed_type="text_time"), "found addition_embed_type 'text_time': added conditions"),
    "kandinsky": (unet(addition_embed_type="image"), "found addition_embed_type 'image': added conditions"),
    "adapter": (unet(encoder_hid_dim_type="ip_image_proj"), "found encoder_hid_dim_type 'ip_image_proj'"),
    "class_projection": (unet(class_embed_type="projection"), "found class_embed_type 'projection'"),
    "two_contexts": (unet(dual_cross_attention=True), "found dual_cross_attention, whose layers attend to two contexts"),
    "one_frame": (unet(video_length=1), "found video_length 1, expected 2 to 1024 frames"),
    "boxes": (unet(attention_type="gated"), "found attention_type 'gated'"),
    "inpainting": (unet(in_channels=9, out_channels=4), "found 9 input and 4 output channels, .*inpainting"),
    "upscaler": (unet(in_channels=7, out_channels=4), "found 7 input and 4 output channels"),
    "one_dimension": (unet(_class_name="UNet1DModel"), "found a model of class 'UNet1DModel', expected one of UNet2DModel"),
    "flux": (unet(_class_name="FluxTransformer2DModel"), "found a model of class 'FluxTransformer2DModel'"),
    "sd3": (unet(_class_name="SD3Transformer2DModel"), "found a model of class 'SD3Transformer2DModel'"),
    "nonsense": (unet(down_block_types=["NoBlock", "NoBlock"]), r"config.json makes no UNet2DModel \(ValueError"),
    "impossible": (unet(norm_num_groups=0), "config.json makes no UNet2DModel"),
    "large": (unet(sample_size=[512, 256]), "found 131072 elements in a norm group, of 131072 pixels, expected at most"),
}  # fmt: skip


@pytest.mark.parametrize("changed", [{"_class_name": ["mod", "Class"]}, {"unet": ["my-code", "Net"]}, {"vae": []}])
def test_pipelines_of_code_of_their_own(changed, pixels, tmp_path):
    message = "model_index.json: .*; code that comes with a model is never run: give the denoiser's own folder"
    refuse(pixels, tmp_path, change_json("model_index.json", **changed), message)


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_denoisers_of_other_kinds(case, pixels, tmp_path):
    refuse(pixels, tmp_path, *CONFIGURATIONS[case])


SCHEDULERS = {
    "CMStochasticIterativeScheduler": "this kind is not supported, or say --force-scheduler",
    "EDMEulerScheduler": "this kind is not supported",
    "EDMDPMSolverMultistepScheduler": "this kind is not supported",
    "FlowMatchEulerDiscreteScheduler": "this kind is not supported",
    "ScoreSdeVeScheduler": "this kind is not supported",
    "TCDScheduler": "this kind is not supported",
    "SomebodysScheduler": "this kind is not supported",
    "LCMScheduler": "ask for --scheduler lcm, or say --force-scheduler",
}


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_schedulers_of_other_kinds(kind, pixels, tmp_path):
    refuse(pixels, tmp_path, scheduler(_class_name=kind), f"found a {kind} in the folder, .*{SCHEDULERS[kind]}")


def test_a_scheduler_of_no_class_is_not_taken_for_the_one_asked_for(pixels, tmp_path):
    refuse(
        pixels, tmp_path, scheduler(_class_name=None), "found no _class_name in the scheduler's .* --force-scheduler"
    )


@pytest.mark.parametrize("kind", ["TCDScheduler", None])
def test_the_scheduler_asked_for_can_be_forced(kind, pixels, tmp_path):
    """Its betas are those of the folder's configuration."""
    shutil.copytree(pixels, tmp_path / "float")
    scheduler(_class_name=kind, beta_end=0.03)(tmp_path / "float")
    found = quantize(tmp_path / "float", tmp_path / "out", SCHEDULE, OPTIONS, reading=Reading(force_scheduler=True))
    assert found.scheduler["_class_name"] == "DDIMScheduler" and found.scheduler["beta_end"] == 0.03


@pytest.mark.parametrize(
    ("change", "schedule", "message"),
    [
        ({"beta_schedule": "sigmoid"}, SCHEDULE, "DDIMScheduler does not take 2 .*sigmoid is not impl.*such as ddpm"),
        (
            {"beta_schedule": "laplace"},
            Schedule("euler", 2, 0.0, 1),
            "EulerDiscreteScheduler does not take 2 such steps: laplace is not implemented",
        ),
        ({"algorithm_type": "sde"}, Schedule("dpm++", 2, 0.0, 1), "take 2 such steps: sde is not implemented"),
        ({"prediction_type": "flow_prediction"}, SCHEDULE, "found prediction_type = 'flow_prediction'"),
        ({"use_flow_sigmas": True}, Schedule("dpm++", 2, 0.0, 1), "flow matching is not supported"),
        ({"steps_offset": 1}, Schedule("ddim", 1000), "timesteps up to 1000 for 1000 steps, expected 1000 below 1000"),
        ({}, Schedule("ddim", 1001), "1001"),
        ({}, Schedule("pndm", 3, 0.0, 1), "PNDMScheduler does not take 3 such steps"),
        (
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
            SCHEDULE,
            "leave no signal at timestep 999",
        ),
        (
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
            Schedule("ddim", 2, 1.0, 1),
            "found eta = 1 and betas that leave no signal at timestep 999: .* take a smaller eta",
        ),
        ({"variance_type": None}, DDPM, "found variance_type = None .*expected one of fixed_small,.*; mend it"),
        ({"variance_type": "foo"}, DDPM, "found variance_type = 'foo'"),
        ({"variance_type": "learned_foo"}, DDPM, "found variance_type = 'learned_foo'"),
        ({"beta_schedule": "laplace"}, DDPM, "found beta_schedule = 'laplace' .*expected one of linear"),
    ],
)
def test_schedules_that_cannot_be(change, schedule, message, pixels, tmp_path):
    refuse(pixels, tmp_path, scheduler(**change), message, schedule)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": Options(2, guidance=4.0)}, "names no label for 'no class' to guide away from"),
        ({"labels": [0]}, "the model has no class labels"),
        ({"prompts": ["a cat"]}, "takes no prompts"),
    ],
)
def test_conditions_that_the_model_does_not_have(options, message, pixels, tmp_path):
    refuse(pixels, tmp_path, lambda folder: None, message, **options)


def test_a_class_of_a_unet_is_not_taken_for_no_class(tiny_unet):
    with pytest.raises(ValueError, match="names no label for 'no class' to guide away from; leave --guidance out"):
        quantize_denoiser(tiny_unet, SCHEDULER_CONFIG, SCHEDULE, Options(2, guidance=2.0))


@pytest.mark.parametrize("labels", [[True, False], [0.5], ["1"], [3], [-1], []])
def test_labels_that_are_none(tiny_unet, labels):
    with pytest.raises(ValueError, match=r"found labels \[.*\], expected some of 0 to 2"):
        quantize_denoiser(tiny_unet, SCHEDULER_CONFIG, SCHEDULE, OPTIONS, labels)


def test_a_learned_variance_needs_a_scheduler_that_takes_it(pixels, tmp_path):
    def learn_variance(folder: Path) -> None:
        UNet2DModel(**{**unet2d().config, "out_channels": 6}).save_pretrained(folder / "unet")
        scheduler(variance_type="learned_range")(folder)

    refuse(pixels, tmp_path, learn_variance, "6 output channels for 3: .* only ddpm with variance_type 'learned'")


def test_a_scheduler_that_takes_a_variance_needs_a_model_that_predicts_it(pixels, tmp_path):
    ddpm = Schedule("ddpm", 2, 0.0, 1)
    refuse(pixels, tmp_path, scheduler(variance_type="learned"), "'learned', which needs twice as many outputs", ddpm)


CHANNELS = 32  # of a context of the small text-to-image pipeline
ONES = torch.ones(2, 5, CHANNELS)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (None, r"found no context, expected two tensors of one shape \[trajectories, tokens, 32\]"),
        ((ONES,), "found 1 contexts"),
        ((ONES, ONES[:1]), r"found contexts of shapes \(2, 5, 32\) and \(1, 5, 32\)"),
        ((ONES[:, :0], ONES[:, :0]), r"found contexts of shapes \(2, 0, 32\)"),
        ((ONES[..., :8], ONES[..., :8]), r"found contexts of shapes \(2, 5, 8\)"),
        ((ONES[0], ONES[0]), r"found contexts of shapes \(5, 32\)"),
        ((ONES, ONES / 0), "found NaN or infinity in the context"),
    ],
)
def test_contexts_in_memory(context, message, text):
    source = load_source(text)
    with pytest.raises(ValueError, match=message):
        quantize_denoiser(source.denoiser, source.scheduler, SCHEDULE, OPTIONS, context=context)


def test_a_context_of_a_model_that_takes_none(tiny_unet):
    with pytest.raises(ValueError, match="found a context, and a UNet2DModel takes none; leave it out"):
        quantize_denoiser(tiny_unet, SCHEDULER_CONFIG, SCHEDULE, OPTIONS, context=(ONES, ONES))


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


def test_another_models_folder_is_not_replaced(tiny_folder, pixels):
    before = sorted(path.name for path in tiny_folder.parent.iterdir())
    manifest = (tiny_folder / "manifest.json").read_text()
    with pytest.raises(ValueError, match="holds a quantized model; give another output folder, or --overwrite"):
        quantize(pixels, tiny_folder, SCHEDULE, OPTIONS)
    assert (tiny_folder / "manifest.json").read_text() == manifest
    assert sorted(path.name for path in tiny_folder.parent.iterdir()) == before


def test_with_overwrite_it_is(tiny_folder, pixels):
    manifest = (tiny_folder / "manifest.json").read_text()
    quantize(pixels, tiny_folder, SCHEDULE, OPTIONS, overwrite=True)
    assert (tiny_folder / "manifest.json").read_text() != manifest


def test_an_output_that_cannot_be_written_is_found_first(pixels, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        quantize(pixels, tmp_path / "file" / "out", SCHEDULE, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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
