"""A pipeline is pruned, distilled, saved, loaded by stock diffusers, and quantized."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel
from ditto_zynq.host.diffusers.drop_in import load_pipeline
from ditto_zynq.quant import prune_model as prune_model_module
from ditto_zynq.quant.common import trainer
from ditto_zynq.quant.common.options import Options, Reading, Schedule
from ditto_zynq.quant.prune.allocation import Grain
from ditto_zynq.quant.prune.macs import macs
from ditto_zynq.quant.prune.narrow import NarrowUNet2DConditionModel, NarrowUNet2DModel
from ditto_zynq.quant.prune_model import PruningOptions, allot, cut, prune_model
from ditto_zynq.quant.quantize import quantize

from tests.quant.prune.models import inputs_of, text_unet, unet

pytestmark = pytest.mark.usefixtures("one_thread")
FINE = Grain(tile=4, lanes=4)
OPTIONS = PruningOptions(0.5, steps=2, runs=2, grain=FINE)
SCHEDULE = Schedule(steps=3, groups=1)


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense") / "float"
    DDPMPipeline(unet(), DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    (folder / "README.md").write_text("the card of the dense model")
    return folder


@pytest.mark.parametrize("widths", ["layer", "block"])
def test_a_pruned_pipeline_is_loaded_by_diffusers_and_quantized(dense, widths, tmp_path):
    options = PruningOptions(0.5, widths=widths, steps=2, runs=2, grain=FINE)
    report = prune_model(dense, tmp_path / "pruned", options, SCHEDULE)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "pruned")
    assert type(pipeline.unet) is (NarrowUNet2DModel if widths == "layer" else UNet2DModel)
    found = report["multiplications"]
    inputs = inputs_of(pipeline.unet, batch=1)
    assert (macs(pipeline.unet, inputs), macs(unet(), inputs)) == (found["pruned"], found["dense"])
    assert found["share"] <= 0.5 and json.loads((tmp_path / "pruned/pruning.json").read_text()) == report
    assert {path.name for path in tmp_path.iterdir()} == {"pruned"} and not (tmp_path / "pruned/README.md").exists()
    artefact = quantize(
        tmp_path / "pruned", tmp_path / "int8", Schedule(steps=2, groups=1), Options(trajectories=1, fine=0)
    )
    assert artefact.config["_class_name"] == "UNet2DModel"


@pytest.mark.parametrize("criterion", ["l1", "random", "taylor"])
def test_other_criteria_leave_as_many_multiplications(criterion, dense, tmp_path):
    options = PruningOptions(0.5, criterion=criterion, steps=0, runs=1, grain=FINE)
    report = prune_model(dense, tmp_path / "pruned", options, SCHEDULE)
    reference = cut(unet(), allot(unet(), inputs_of(unet(), batch=1), OPTIONS))
    assert report["multiplications"]["pruned"] == reference.macs
    assert report["mean_square_error"]["cut"] == report["mean_square_error"]["distilled"] > 0


@pytest.mark.parametrize("widths", ["layer", "block"])
def test_a_model_with_cross_attention_and_geglu(widths):
    model = text_unet()
    found = cut(model, allot(model, inputs_of(model), PruningOptions(0.5, widths=widths, grain=FINE)))
    assert found.macs <= 0.5 * found.dense_macs and isinstance(found.model, NarrowUNet2DConditionModel) == (
        widths == "layer"
    )
    with torch.no_grad():
        assert found.model(**inputs_of(model)).sample.isfinite().all()


def test_layers_that_equally_wide_blocks_do_not_have_are_said():
    model = unet(block_out_channels=(16, 32))
    found = cut(
        model, allot(model, inputs_of(model), PruningOptions(0.6, widths="block", grain=Grain(tile=16, lanes=16)))
    )
    assert tuple(found.model.config.block_out_channels) == (16, 16)
    assert found.left_out == ("down_blocks.1.resnets.0.conv_shortcut",)


def test_a_pruned_model_is_pruned_again():
    model = unet()
    once = cut(model, allot(model, inputs_of(model), PruningOptions(0.6, grain=FINE)))
    twice = cut(once.model, allot(once.model, inputs_of(model), PruningOptions(0.6, grain=FINE)))
    assert twice.dense_macs == once.macs and twice.macs <= 0.6 * once.macs
    with pytest.raises(
        ValueError, match="found a model whose layers have widths of their own; prune it with --widths layer"
    ):
        cut(once.model, allot(once.model, inputs_of(model), PruningOptions(0.6, widths="block", grain=FINE)))


def test_an_interrupted_pruning_goes_on(dense, tmp_path, monkeypatch):
    whole = prune_model(dense, tmp_path / "whole", OPTIONS, SCHEDULE)
    original = trainer.F.mse_loss

    def interrupting(*arguments):
        signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(trainer.F, "mse_loss", interrupting)
    with pytest.raises(KeyboardInterrupt):
        prune_model(dense, tmp_path / "parts", OPTIONS, SCHEDULE)
    monkeypatch.undo()
    assert not (tmp_path / "parts").exists() and (tmp_path / "parts.partial").is_dir()
    with pytest.raises(ValueError, match="is of a pruning with other settings; remove it"):
        prune_model(dense, tmp_path / "parts", PruningOptions(0.4, steps=2, runs=2, grain=FINE), SCHEDULE)
    assert prune_model(dense, tmp_path / "parts", OPTIONS, SCHEDULE) == whole
    assert not (tmp_path / "parts.partial").exists()


@pytest.mark.parametrize("macs", [0, 1, -0.5, 1.5, float("nan"), "half"])
def test_shares_that_are_none(macs):
    with pytest.raises(
        ValueError, match=r"found macs .*, expected the share of multiplications to keep, between 0 and 1"
    ):
        PruningOptions(macs)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("widths", "channel", "found widths 'channel', expected one of layer, block"),
        ("criterion", "l3", "found criterion 'l3', expected one of reprune, l1, random, taylor"),
        ("steps", -1, "steps"),
        ("runs", 0, "runs"),
    ],
)
def test_options_that_there_are_not(field, value, message):
    with pytest.raises(ValueError, match=message):
        PruningOptions(0.5, **{field: value})


def test_a_share_that_leaves_a_layer_under_its_norm_s_groups():
    model = unet()
    with pytest.raises(
        ValueError, match=r"found [\d,]+ multiplications with every layer at its fewest channels \(.*: \d+ of \d+\)"
    ):
        cut(model, allot(model, inputs_of(model), PruningOptions(0.01, grain=FINE)))


def test_outputs_that_exist(dense, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(ValueError, match="other exists and is no pruned model"):
        prune_model(dense, tmp_path / "other", OPTIONS, SCHEDULE)
    shutil.copytree(dense, tmp_path / "pruned")
    (tmp_path / "pruned" / "pruning.json").write_text("{}")
    with pytest.raises(ValueError, match="pruned has a pruned model; say --overwrite"):
        prune_model(dense, tmp_path / "pruned", OPTIONS, SCHEDULE)
    options = PruningOptions(0.5, steps=0, runs=1, grain=FINE)
    prune_model(dense, tmp_path / "pruned", options, SCHEDULE, overwrite=True)
    assert len((tmp_path / "pruned" / "pruning.json").read_text()) > 2


def test_pickles_of_other_pruning_projects(dense, tmp_path):
    shutil.copytree(dense, tmp_path / "float")
    (tmp_path / "float/unet/diffusion_pytorch_model.safetensors").rename(tmp_path / "float/unet/unet_pruned.pth")
    with pytest.raises(FileNotFoundError, match=r"only pickles, .*adopt\(model\)"):
        prune_model(tmp_path / "float", tmp_path / "out", OPTIONS, SCHEDULE, reading=Reading())


def saved(folder, model, scheduler=None):
    DDPMPipeline(model, scheduler or DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    return folder


def test_outputs_that_are_not_finite_teach_nothing(tmp_path):
    folder = saved(tmp_path / "float", unet(time_embedding_type="fourier"))  # of the logarithm of timestep 0
    with pytest.raises(ValueError, match="the model's outputs at timestep 0 are not finite; nothing can be learned"):
        prune_model(folder, tmp_path / "out", OPTIONS, SCHEDULE)
    assert not (tmp_path / "out").exists()


def test_equal_scales_of_norms_leave_what_was_asked(dense, tmp_path):
    model = unet()
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            torch.nn.init.ones_(module.weight)
    found = cut(model, allot(model, inputs_of(model), PruningOptions(0.6, grain=FINE)))
    assert 0.5 < found.macs / found.dense_macs <= 0.6


def test_a_model_that_predicts_a_variance(tmp_path):
    folder = saved(tmp_path / "float", unet(out_channels=4), DDPMScheduler(variance_type="learned_range"))
    options = PruningOptions(0.6, steps=0, runs=1, grain=FINE)
    assert (
        prune_model(folder, tmp_path / "out", options, Schedule("ddpm", 2, groups=1))["multiplications"]["share"] <= 0.6
    )
    with pytest.raises(ValueError, match="the model predicts a variance too, which only ddpm"):
        prune_model(folder, tmp_path / "other", options, SCHEDULE)


def test_noise_of_the_scheduler_depends_on_the_seed_alone(dense, tmp_path):
    options = PruningOptions(0.6, steps=0, runs=2, grain=FINE)
    schedule = Schedule("ddpm", 3, groups=1)
    reports = [prune_model(dense, tmp_path / name, options, schedule) for name in ("one", "two")]
    assert reports[0] == reports[1]


def test_going_on_with_other_labels_is_refused(dense, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prune_model_module, "distill", interrupted)
        prune_model(dense, tmp_path / "out", OPTIONS, SCHEDULE, labels=[0])
    with pytest.raises(ValueError, match="is of a pruning with other settings"):
        prune_model(dense, tmp_path / "out", OPTIONS, SCHEDULE, labels=[1])


def test_an_output_in_a_part_of_the_pipeline(dense):
    with pytest.raises(ValueError, match="lies in a part of the pipeline"):
        prune_model(dense, dense / "scheduler" / "pruned", OPTIONS, SCHEDULE)


@pytest.mark.parametrize(
    ("make", "widths", "message"),
    [
        (
            lambda: text_unet(
                down_block_types=("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
                up_block_types=("SimpleCrossAttnUpBlock2D", "UpBlock2D"),
                mid_block_type="UNetMidBlock2DSimpleCrossAttn",
                attention_head_dim=8,
            ),
            "layer",
            "found a Attention at .*, which cannot be pruned",
        ),
        (lambda: unet(time_embedding_type="fourier"), "block", "found a fourier embedding of timesteps"),
    ],
)
def test_models_that_cannot_be_pruned(make, widths, message):
    model = make()
    with pytest.raises(ValueError, match=message):
        allot(model, inputs_of(model), PruningOptions(0.6, widths=widths, grain=FINE))


def test_blocks_are_made_as_wide_as_the_target_allows():
    model = unet(block_out_channels=(12, 24))  # half of which the norms' groups do not divide
    found = cut(model, allot(model, inputs_of(model), PruningOptions(0.6, widths="block", grain=FINE)))
    assert 0.4 < found.macs / found.dense_macs <= 0.6


def test_a_pruned_text_to_image_pipeline_is_drawn_with_after_it_was_quantized(text, tmp_path):
    """What stands for its U-Net is of a class that diffusers knows."""
    options = PruningOptions(0.9, steps=0, runs=1, grain=Grain(1, 1))
    prune_model(text, tmp_path / "pruned", options, Schedule(steps=2, groups=1))
    quantize(tmp_path / "pruned", tmp_path / "int8", Schedule(steps=2, groups=1), Options(trajectories=1, fine=0))
    index = json.loads((tmp_path / "int8/model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert load_pipeline(tmp_path / "int8").unet.config.sample_size
