"""The drop-in: stock diffusers pipelines with a quantized denoiser, and what they must not get past it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, StableDiffusionImg2ImgPipeline, UNet2DModel
from ditto_zynq.hls.artefact.model import ArtefactError, load
from ditto_zynq.hls.artefact.model import save as save_artefact
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.devices import opening as devices
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.diffusers.drop_in import Request, _agrees, batches, load_pipeline, pipeline_model, wrap
from ditto_zynq.host.program.operations import fitting
from ditto_zynq.host.runtime.model import Guidance, Model, pipeline_class
from ditto_zynq.host.runtime.model import load as load_model
from ditto_zynq.host.runtime.schedulers import standard_normal
from ditto_zynq.host.runtime.session import DEFO, DIFFERENCE, ORIGINAL
from ditto_zynq.host.studies import paper_setting
from ditto_zynq.host.studies.compare import compare
from ditto_zynq.host.studies.similarity import measure
from ditto_zynq.host.studies.workload import Lender
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.common.options import SCHEDULERS
from ditto_zynq.quant.quantize import Schedule, quantize, quantize_denoiser

from tests.pipelines import FAMILIES, dit, save, unet2d

STEPS = 4
CALLS = {
    "ddpm": {},
    "ddim": {},
    "latent_diffusion": {"batch_size": 2},
    "stable_diffusion": {"prompt": "a painting of a squirrel eating a burger", "guidance_scale": 6.0},
    "dit": {"class_labels": [1, 2], "guidance_scale": 4.0},
    "latte": {"prompt": "a painting", "video_length": 2, "height": 16, "width": 16, "guidance_scale": 5.0},
}
RUN = [sys.executable, "-m", "ditto_zynq.host.cli"]
LABELS = {"dit": [1, 2, 1000]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Float pipelines and their quantizations, made when they are first asked for."""
    root, made = tmp_path_factory.mktemp("pipelines"), {}

    def of(family: str, scheduler: str = "ddim"):
        if (family, scheduler) not in made:
            if not (root / family).exists():
                save(family, root / family)
            out = root / f"{family}-{scheduler}"
            kind = "ddpm" if family == "ddpm" else scheduler
            schedule = Schedule(kind, STEPS, 0.0, 2)
            quantize(root / family, out, schedule, Options(trajectories=4), LABELS.get(family))
            made[family, scheduler] = root / family, out
        return made[family, scheduler]

    return of


def run(pipeline, family: str, steps: int = STEPS, **more):
    pipeline.set_progress_bar_config(disable=True)
    output_type = "pt" if family == "latte" else "np"
    arguments = {**CALLS[family], "output_type": output_type, "num_inference_steps": steps, **more}
    return np.asarray(pipeline(generator=torch.manual_seed(0), **arguments)[0])


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(1 / ((found - expected) ** 2).mean()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stock_pipeline_with_a_quantized_denoiser(folders, family):
    folder, quantized = folders(family)
    pipeline = load_pipeline(quantized)
    exact = type(pipeline).from_pretrained(folder, scheduler=pipeline.scheduler)
    found, expected = run(pipeline, family), run(exact, family)
    assert found.shape == expected.shape and psnr(found, expected) > (24 if family == "latte" else 27)


@pytest.mark.parametrize("family", ["stable_diffusion", "dit", "latte"])
@pytest.mark.hls
def test_c_simulation_and_every_flow_give_the_same_images(folders, family, csim_cache):
    _, quantized = folders(family)
    config = default_config("zcu104")
    devices = (
        (EmulatorDevice(config, differences=True), DIFFERENCE),
        (EmulatorDevice(config, backend="numpy"), ORIGINAL),
        (EmulatorDevice(config), DEFO),
        (CSimDevice(config, cache=csim_cache), DIFFERENCE),
    )
    expected = run(load_pipeline(quantized), family)
    for device, flow in devices:
        assert np.array_equal(run(load_pipeline(quantized, device, flow), family), expected), (device.name, flow)


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"ddpm", "ddim"}))
def test_other_schedulers(folders, scheduler):
    folder, quantized = folders("stable_diffusion", scheduler)
    pipeline = load_pipeline(quantized)
    assert type(pipeline.scheduler) is SCHEDULERS[scheduler]
    exact = type(pipeline).from_pretrained(folder, scheduler=pipeline.scheduler)
    assert psnr(run(pipeline, "stable_diffusion"), run(exact, "stable_diffusion")) > 27
    with pytest.raises(ValueError, match=r"found no context, expected one of shape \(1, 24, 32\)"):
        load_model(quantized).generate(1)


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"ddpm", "ddim"}))
def test_costs_of_a_schedule_that_only_diffusers_has(scheduler, tmp_path):
    """Counted on the samples that diffusers' scheduler makes of the model's outputs, whatever ran before or beside them."""
    options = Options(1, norm=0.0, correct_biases=False, fine=0)
    artefact = quantize_denoiser(unet2d(), {}, Schedule(scheduler, STEPS, 0.0, 1), options)
    model = Model(artefact, EmulatorDevice(default_config("zcu104")))
    alone = model.denoise_as_calibrated(1, 3).samples
    counted = model.denoise_as_calibrated(2, 3)
    assert np.array_equal(counted.samples[:1], alone) and not np.array_equal(counted.samples[1:], alone)
    theirs = SCHEDULERS[scheduler].from_config(dict(artefact.scheduler))
    theirs.set_timesteps(STEPS)
    assert counted.record.counters.shape[0] == len(theirs.timesteps)
    if scheduler != "lcm":  # whose steps add noise
        sample = standard_normal(3, 0, 0, artefact.graph.sample_shape)[None]
        sample = torch.from_numpy(sample) * theirs.init_noise_sigma
        for step, timestep in enumerate(theirs.timesteps):
            asked = theirs.scale_model_input(sample, timestep).numpy()
            output = model.session(1).run_step(asked, step, np.zeros(1, np.int64), ORIGINAL)
            sample = theirs.step(torch.from_numpy(output), timestep, sample).prev_sample
        assert np.array_equal(alone, sample.numpy())
    drawn = model.generate(2, seed=3, batch=1, progress=False)
    assert np.array_equal(drawn.samples, counted.samples), "whatever the batch"
    save_artefact(artefact, tmp_path / "model")
    command = ("generate", tmp_path / "model", "-n", 2, "--seed", 3, "-o", tmp_path / "x.npz", "--quiet")
    assert (made := invoke(*command)).exit_code == 0, made.output
    with np.load(tmp_path / "x.npz") as arrays:
        assert np.array_equal(arrays["samples"], drawn.samples)
    for command in ("profile", "compare"):
        counted = invoke(command, tmp_path / "model", "--batch", 1, "--json")
        assert counted.exit_code == 0, counted.output
    assert json.loads(counted.stdout.splitlines()[-1])["steps"] == len(theirs.timesteps)
    assert model.throughput_test(1)["steps"] == len(theirs.timesteps)


def test_whatever_ends_generate_closes_the_device(folders, tmp_path, monkeypatch):
    """And leaves nothing in its memory; what can be refused before is, before a device is opened."""
    opened, left = [], []

    class Watched(EmulatorDevice):
        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            opened.append(self)

        def close(self):
            left.append(sum(buffer.data.size for buffer in self.buffers))
            super().close()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def broken(*_: object, **__: object) -> None:
        raise ArtefactError("the VAE is damaged")

    monkeypatch.setattr(devices, "EmulatorDevice", Watched)
    command = (
        "generate",
        folders("stable_diffusion")[1],
        "-n",
        1,
        "-o",
        tmp_path / "x.png",
        "--device",
        "emulator",
        "--quiet",
    )
    assert "give at least one, such as --prompt" in invoke(*command).output and not opened
    with monkeypatch.context() as patched:
        patched.setattr(DiffusionPipeline, "from_pretrained", broken)
        assert invoke(*command, "--prompt", "a cat").exit_code == 1
    with monkeypatch.context() as patched:
        patched.setattr(Watched, "execute", interrupted)
        assert invoke(*command, "--prompt", "a cat").exit_code == 130
    assert invoke(*command, "--prompt", "a cat").exit_code == 0
    assert len(opened) == 3 and left == [0, 0, 0]


def test_an_image_is_what_the_pipeline_makes_of_latents(folders, tmp_path, model_reads):
    """Of every class of pipeline but those of pixels, whatever its autoencoder is called."""
    _, quantized = folders("latent_diffusion")
    model_reads.clear()
    result = invoke("generate", quantized, "-n", 3, "--batch", 2, "-o", tmp_path / "x.npz", "--quiet")
    assert result.exit_code == 0 and len(model_reads) == 1, result.output
    pipeline = load_pipeline(quantized)
    generators = [torch.Generator().manual_seed(index) for index in range(3)]
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(3, generators, num_inference_steps=STEPS, output_type="np").images
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["images"].shape == (3, 16, 16, 3)
        assert np.array_equal(arrays["images"], np.rint(expected.clip(0, 1) * 255).astype(np.uint8))
    for option in ("--prompt", "--guidance"):
        refused = invoke("generate", quantized, "-n", 1, "-o", tmp_path / "y.png", option, "3")
        assert refused.exit_code == 1 and ("no prompts" in refused.output or "no guidance_scale" in refused.output)


BARS = re.compile(r"((calibrate: [a-z ]+|denoise 1 of 1): )? *\d+%\|.*|device: emulator .*|compiling the emulator.*")


@pytest.mark.slow
def test_commands_say_nothing_of_other_packages(folders, tmp_path):
    """transformers, diffusers, torch and Brevitas warn of many things: none of it is for who quantizes and draws."""
    source, _ = folders("stable_diffusion")
    quantized = [
        "quantize",
        str(source),
        "-o",
        "out",
        "--steps",
        "2",
        "--groups",
        "1",
        "--trajectories",
        "1",
        "--fine",
        "0",
    ]
    for command in (quantized, ["generate", "out", "-n", "1", "--prompt", "french fries", "-o", "x.png"]):
        run_ = subprocess.run([*RUN, *command], capture_output=True, text=True, cwd=tmp_path)
        assert run_.returncode == 0, run_.stderr
        lines = [line for line in re.split(r"[\r\n]+", run_.stderr) if line.strip()]
        assert lines and not [line for line in lines if not BARS.fullmatch(line)]
    assert "device: emulator (zcu104 configuration)" in lines, "the last command's"
    assert [line for line in lines if line.startswith("denoise 1 of 1: ")]
    summary = subprocess.run([*RUN, *command, "--summary", "x.txt"], capture_output=True, text=True, cwd=tmp_path)
    assert summary.returncode == 1 and "count what its denoiser costs with: ditto-zynq profile out" in summary.stderr
    labels = subprocess.run([*RUN, *command, "--labels", "3"], capture_output=True, text=True, cwd=tmp_path)
    assert labels.returncode == 1
    assert labels.stderr == "Error: found --labels 3, but the model has no classes; leave --labels out\n"


def test_learned_variance_runs_in_the_drop_in(tmp_path):
    """Of a pixel model: the runtime's own sampler has none, diffusers' has, and costs are counted with it."""
    unet = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=6, layers_per_block=1, block_out_channels=(4, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler(variance_type="learned_range")).save_pretrained(tmp_path / "float")
    artefact = quantize(tmp_path / "float", tmp_path / "model", Schedule("ddpm", 3, 0.0, 1), Options(2, fine=0))
    pipeline = load_pipeline(tmp_path / "model")
    exact = type(pipeline).from_pretrained(tmp_path / "float", scheduler=pipeline.scheduler)
    assert psnr(run(pipeline, "ddpm", 3), run(exact, "ddpm", 3)) > 27
    model = Model(artefact, EmulatorDevice(default_config("zcu104")))
    alone = model.denoise_as_calibrated(1, 3).samples
    assert np.array_equal(model.denoise_as_calibrated(2, 3).samples[:1], alone)
    assert model.throughput_test(1)["steps"] == 3
    assert np.array_equal(model.generate(1, seed=3, progress=False).samples, alone)


@pytest.mark.parametrize("kind", ["ddim", "euler", "pndm", "lcm"])
def test_a_transformer_with_a_variance_under_schedulers_that_take_none(kind):
    """They keep the variance_type of DDPM's configuration, and read nothing of it."""
    torch.manual_seed(0)
    config = {"_class_name": "DDPMScheduler", "variance_type": "learned_range", "clip_sample": False}
    artefact = quantize_denoiser(
        dit().transformer, config, Schedule(kind, 4, 0.0, 1), Options(1, fine=0), [1, 1000], component="transformer"
    )
    model = Model(artefact, EmulatorDevice(default_config("zcu104"), counting=False))
    samples = model.denoise_as_calibrated(2, labels=[1]).samples
    assert samples.shape == (2, *artefact.graph.sample_shape) and np.isfinite(samples).all()
    if kind == "ddim":
        assert model.generate(2, [1], progress=False).samples.shape == samples.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"_class_name": None},
            "found scheduler class None, which diffusers .* does not have; quantize the model again",
        ),
        ({"_class_name": "FooScheduler"}, "found scheduler class 'FooScheduler', which diffusers .* does not have"),
        (
            {"_class_name": "VQDiffusionScheduler"},
            "VQDiffusionScheduler of diffusers .* does not take the model's 4 steps",
        ),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEulerDiscreteScheduler .* does not (run|take)"),
        ({"beta_schedule": "laplace"}, "DDIMScheduler of diffusers .* 4 steps: laplace is not implemented"),
        ({"num_train_timesteps": 3}, "DDIMScheduler of diffusers .* does not take the model's 4 steps"),
    ],
)
@pytest.mark.parametrize("with_rule", [True, False])
def test_schedulers_that_diffusers_does_not_have_or_run(folders, change, message, with_rule):
    artefact = load(folders("ddim")[1])
    quantization = {name: value for name, value in artefact.quantization.items() if with_rule or name != "rule"}
    other = dataclasses.replace(artefact, scheduler={**artefact.scheduler, **change}, quantization=quantization)
    with pytest.raises(ValueError, match=message) as error:
        wrap(other)
    assert "\n" not in str(error.value) and re.search("quantize the model again", str(error.value))


def test_an_index_that_makes_no_pipeline_is_one_line(folders, tmp_path):
    shutil.copytree(folders("ddim")[1], tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "FooPipeline"}))
    manifest["sha256"]["model_index.json"] = hashlib.sha256(index.read_bytes()).hexdigest()
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"makes no FooPipeline of .*; copy or quantize the whole pipeline again"):
        load_pipeline(tmp_path / "model")


def test_another_rule_of_the_scheduler_is_refused(folders):
    """As of a release of diffusers whose scheduler steps in another way than the one that the model is quantized for."""
    artefact = load(folders("ddim")[1])
    response = [value * 1.01 for value in artefact.quantization["rule"]["response"]]
    rule = {"diffusers": "0.1.0", "response": response}
    other = dataclasses.replace(artefact, quantization={**artefact.quantization, "rule": rule})
    with pytest.raises(ValueError, match=r"does not step as that of 0\.1\.0, for which the model is quantized"):
        wrap(other)


def test_setting_the_attribute_of_a_loaded_pipeline(folders):
    """As the README says it: the user's own pipeline, callbacks and output types."""
    folder, quantized = folders("stable_diffusion")
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.unet = wrap(quantized)
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, int(timestep), tensors["latents"].shape))
        return tensors

    found = run(pipeline, "stable_diffusion", callback_on_step_end=callback)
    assert [step for step, *_ in seen] == list(range(STEPS)) and seen[0][2] == (1, 4, 32, 32)
    assert np.array_equal(found, run(load_pipeline(quantized), "stable_diffusion"))
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(num_inference_steps=STEPS, generator=torch.manual_seed(0), **CALLS["stable_diffusion"]).images
    assert images[0].size == (64, 64)


def test_what_users_do_with_pipelines(folders, tmp_path, monkeypatch):
    """Compiled, handed to another pipeline, or to be saved or changed: right, or one line before anything is written."""
    _, quantized = folders("stable_diffusion")
    pipeline = load_pipeline(quantized)
    expected = run(pipeline, "stable_diffusion")
    other = StableDiffusionImg2ImgPipeline.from_pipe(pipeline)
    assert other.unet is pipeline.unet
    with pytest.raises(ValueError, match="the unet is quantized: copy the folder"):
        other.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    for change in (
        lambda: pipeline.enable_freeu(0.9, 0.2, 1.2, 1.4),
        lambda: pipeline.unet.load_lora_adapter({}),
        lambda: pipeline.unet.add_adapter(None),
        lambda: pipeline.unet.set_attn_processor(None),
        lambda: pipeline.fuse_qkv_projections(),
    ):
        with pytest.raises(AttributeError, match="this one is quantized: change the float model"):
            change()
    monkeypatch.setattr("diffusers.utils.USE_PEFT_BACKEND", True)  # without it diffusers asks for PEFT first
    lora = {"unet.down_blocks.0.attentions.0.proj_in.lora_A.weight": torch.zeros(1, 32)}
    for change in (
        lambda: pipeline.load_lora_into_unet(lora, {}, pipeline.unet),
        lambda: pipeline.load_lora_weights(lora),
    ):
        with pytest.raises(AttributeError, match=r"load_lora_adapter .*fuse LoRA into it with .* quantize that"):
            change()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pipeline.unet.nonsense
    pipeline.unet = torch.compile(pipeline.unet)
    assert np.array_equal(run(pipeline, "stable_diffusion"), expected)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_a_copy_is_another_denoiser_on_the_same_device(folders, way):
    """With a history of its own: their runs may be one beside the other. It cannot be pickled, nor its pipeline be saved so."""
    original = wrap(folders("stable_diffusion")[1], EmulatorDevice(default_config("zcu104"), differences=True))
    other = way(original)
    assert other is not original and other.model.device is original.model.device and other.flow == original.flow
    random = torch.Generator().manual_seed(0)
    samples, context = torch.randn(4, 1, 4, 32, 32, generator=random), torch.randn(1, 24, 32, generator=random)
    times = original.artefact.timesteps[:2]
    alone = [original(samples[step], times[step], context).sample for step in range(2)]
    for step in range(2):
        assert torch.equal(original(samples[step], times[step], context).sample, alone[step])
        assert not torch.equal(other(samples[2 + step], times[step], context).sample, alone[step])
    with pytest.raises(TypeError, match=r"is not pickled; wrap the folder that it was quantized to again"):
        pickle.dumps(original)


@pytest.mark.parametrize(
    "name", ["self", "kwargs", "keys", "get", "items", "update", "__class__", "_FrozenDict__frozen"]
)
def test_fields_of_a_configuration_that_python_has_names_for(folders, name):
    """They are no model's: left out, as diffusers does with fields that it does not know; of a scheduler too."""
    artefact = load(folders("dit")[1])
    other = dataclasses.replace(
        artefact, config={**artefact.config, name: 7}, scheduler={**artefact.scheduler, "unknown_field": 7}
    )
    denoiser = wrap(other)
    assert denoiser.config == wrap(artefact).config and name not in denoiser.config
    refused = dataclasses.replace(artefact, scheduler={**artefact.scheduler, name: 7})
    if name in ("self", "get", "items", "__class__"):  # diffusers itself cannot read it
        with pytest.raises(ValueError, match=r"DDIMScheduler of diffusers .* does not (take|run) the model's") as error:
            wrap(refused)
        assert "\n" not in str(error.value)
    else:
        wrap(refused)


META = torch.zeros(2, 4, 32, 32, device="meta")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"sample": [[1.0]]}, TypeError, "found a sample of type list, expected a torch.Tensor"),
        ({"sample": np.zeros((2, 4, 32, 32))}, TypeError, "found a sample of type ndarray, expected a torch.Tensor"),
        ({"sample": "x"}, TypeError, "found a sample of type str"),
        ({"sample": META}, ValueError, "found a sample on the meta device, expected a dense tensor"),
        ({"sample": torch.zeros(2, 4, 32, 32).to_sparse()}, ValueError, "found a sample of layout torch.sparse_coo"),
        ({"sample": torch.zeros(2, 4, 32, 32, dtype=torch.complex64)}, ValueError, "found a sample of torch.complex64, expected"),
        ({"sample": torch.zeros(2, 4, 32, 32, dtype=torch.bool)}, ValueError, "found a sample of torch.bool, expected finite"),
        ({"sample": torch.tensor(1.0)}, ValueError, "found a sample of , but|found a sample of .*quantized for 4x32x32"),
        ({"context": [[1.0]]}, TypeError, "found encoder_hidden_states of type list, expected a torch.Tensor"),
        ({"context": np.zeros((2, 24, 32))}, TypeError, "found encoder_hidden_states of type ndarray"),
        ({"context": META[:, 0, :24]}, ValueError, "found encoder_hidden_states on the meta device"),
        ({"context": torch.zeros(2, 24, 32).to(torch.complex64)}, ValueError, "found encoder_hidden_states of torch.complex64"),
        ({"context": torch.zeros(2, 24, 32) > 0}, ValueError, "found encoder_hidden_states of torch.bool, expected finite"),
        ({"context": torch.zeros(24, 32)}, ValueError, r"found encoder_hidden_states of shape \(24, 32\), expected \(2, tokens"),
        ({"timestep": "x"}, ValueError, "found timestep 'x', expected one of the schedule: 751, 501, 251, 1"),
        ({"timestep": [[751], [751, 1]]}, ValueError, "found timestep .* expected one of the schedule"),
        ({"timestep": 10**400}, ValueError, "found timestep 1000.*, expected one of the schedule"),
        ({"timestep": float("nan")}, ValueError, "found timestep nan, expected one of the schedule"),
        ({"timestep": torch.full((2,), torch.nan)}, ValueError, "found timestep nan, expected one of the schedule"),
        ({"timestep": float("inf")}, ValueError, "found timestep inf, expected one of the schedule"),
        ({"timestep": torch.tensor(1j)}, ValueError, "found timestep of torch.complex64, expected one of the schedule"),
        ({"timestep": True}, ValueError, "found timestep of torch.bool, expected one of the schedule"),
        ({"timestep": torch.zeros(2, device="meta")}, ValueError, "found timestep a tensor on the meta device, expected one"),
        ({"timestep": []}, ValueError, r"found timesteps \[\] in one batch, expected one"),
        ({"timestep": {}}, ValueError, r"found timestep \{\}, expected one of the schedule"),
        ({"encoder_attention_mask": [[1] * 24] * 2}, TypeError, "found an encoder_attention_mask of type list, expected"),
        ({"encoder_attention_mask": META[:, 0, 0]}, ValueError, "found an encoder_attention_mask on the meta device"),
        ({"encoder_attention_mask": torch.ones(2, 7)}, ValueError, r"found a mask of shape \(2, 7\), expected \(2, 24\)"),
        ({"attention_mask": META[:, 0, 0]}, ValueError, "found attention_mask, which a quantized model does not support"),
        ({"attention_mask": "x"}, ValueError, "found attention_mask, which a quantized model does not support"),
        ({"enable_temporal_attentions": torch.ones(2)}, ValueError, "found enable_temporal_attentions, which a quantized"),
        ({"timestep_cond": "x"}, ValueError, "found timestep_cond that the model was not quantized for; leave it out"),
        ({"added_cond_kwargs": 7}, ValueError, "found added_cond_kwargs that the model was not quantized for; leave it out"),
    ],
    ids=str,
)  # fmt: skip
def test_inputs_that_are_no_tensors_of_numbers(folders, inputs_of, given, error, message):
    denoiser, right = inputs_of
    given = {"encoder_hidden_states" if name == "context" else name: value for name, value in given.items()}
    with pytest.raises(error, match=message) as refused:
        denoiser(**(right | given))
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def inputs_of(folders):
    """A denoiser, and what it takes."""
    denoiser = wrap(folders("stable_diffusion")[1])
    context = torch.zeros(2, 24, 32)
    sample, timestep = torch.zeros(2, 4, 32, 32), denoiser.artefact.timesteps[0]
    return denoiser, {"sample": sample, "timestep": timestep, "encoder_hidden_states": context}


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"a": 1}, (1.0,)), ("x", (1.0,)), (torch.tensor([1j]), (1.0,)), (META, (1.0,)), ([1.0], {"a": 1})],
)
def test_conditions_of_other_kinds_are_not_those_of_the_model(value, expected):
    assert not _agrees(value, expected)


def test_inputs_of_any_form_that_means_the_same(inputs_of):
    denoiser, right = inputs_of
    time, expected = right["timestep"], denoiser(**right).sample
    for same in (torch.tensor([time, time]), np.array(time), [time], np.float32(time), torch.tensor(float(time))):
        assert torch.equal(denoiser(**(right | {"timestep": same})).sample, expected)
    gradients = right["sample"].clone().requires_grad_()
    assert torch.equal(denoiser(**(right | {"sample": gradients})).sample, expected)


def test_a_model_that_attends_needs_its_context(folders):
    model = load_model(folders("stable_diffusion")[1])
    sample, time = np.zeros((1, 4, 32, 32)), model.artefact.timesteps[0]
    for context, message in (
        (None, "found no context, expected one of shape"),
        (np.zeros((1, 24, 31)), r"found a context of shape \(1, 24, 31\), expected \(1, 24, 32\)"),
        ([["x"]], "found <U1 values in the context, expected finite real ones"),
        (np.full((1, 24, 32), np.nan), "found NaN or infinity in the context"),
    ):
        with pytest.raises(ValueError, match=message):
            model.execute(sample, time, context=context)


def test_latents_of_another_type(folders):
    """A pipeline is of one type; latents of another one are named, and how to convert them."""
    _, quantized = folders("stable_diffusion")
    pipeline, latents = load_pipeline(quantized), torch.zeros(1, 4, 32, 32)
    for dtype in (torch.float16, torch.float64):
        with pytest.raises(
            ValueError, match=rf"found a sample of {dtype} with .* give the pipeline latents.to.torch.float32"
        ):
            run(pipeline, "stable_diffusion", latents=latents.to(dtype))
    denoiser, context = wrap(quantized), torch.zeros(1, 24, 32, dtype=torch.float16)
    assert denoiser(latents.half(), denoiser.artefact.timesteps[0], context).sample.dtype == torch.float16


@pytest.mark.parametrize(
    ("labels", "same"),
    [(1, [1, 1]), (torch.tensor(2), [2, 2]), (torch.tensor([[1], [2]]), [1, 2]), ([2, 1], [2, 1]), ([1], [1, 1])],
)
def test_labels_of_any_shape(folders, labels, same):
    denoiser = wrap(folders("dit")[1])
    sample, time = torch.ones(2, 4, 16, 16), denoiser.artefact.timesteps[0]
    expected = denoiser(sample, time, class_labels=torch.tensor(same)).sample
    assert torch.equal(denoiser(sample, time, class_labels=labels).sample, expected)
    foreign = (
        "1", ["1", "2"], [10**30, 1], [1.0, 2.0], np.array([1.0, 2.0]), torch.tensor([1j, 2]), {1: 2}, [[1], [1, 2]],
        torch.ones(2, dtype=torch.int64, device="meta"), object(),
    )  # fmt: skip
    for wrong in ([1, 2, 1], torch.tensor([True, False]), [True, False], [], *foreign):
        with pytest.raises(
            ValueError, match=r"found .*class_labels .*expected as many as samples \(2\), or one, of integers"
        ):
            denoiser(sample, time, class_labels=wrong)
    assert torch.equal(denoiser(sample, time, class_labels=np.array(same)).sample, expected)


def test_large_seeds_of_pipelines_are_refused(folders, tmp_path):
    """torch's generator looks at 32 bits of a seed: 2**32 would draw the images of 0."""
    arguments = ("generate", folders("latent_diffusion")[1], "-n", 1, "-o", tmp_path / "x.png", "--seed", 2**32)
    refused = invoke(*arguments)
    assert refused.exit_code == 1 and "found seed 4294967296, expected one from 0 to 2**32 - 1" in refused.output


def test_steps_have_the_noise_that_the_model_was_quantized_for(folders):
    """eta is no part of a scheduler's configuration; each pipeline passes it on, or has no such argument."""
    images = []
    for family, eta in (("stable_diffusion", 0.0), ("stable_diffusion", 1.0), ("dit", 1.0)):
        pipeline = load_pipeline(folders(family)[1])
        denoiser = pipeline_model(pipeline)
        noisy = denoiser.artefact.quantization | {"eta": eta}
        denoiser.artefact = dataclasses.replace(denoiser.artefact, quantization=noisy)
        request = Request(("french fries",), (), 0, 1.0) if family != "dit" else Request((), (1,), 0, None)
        if family == "dit":
            with pytest.raises(ValueError, match="DiTPipeline takes no eta"):
                next(batches(pipeline, request, 1, [0], progress=False))
        else:
            images.append(next(batches(pipeline, request, 1, [0], progress=False)).samples)
    assert not np.array_equal(*images)


def test_an_image_does_not_depend_on_the_runs_before(folders):
    _, quantized = folders("stable_diffusion")
    pipeline = load_pipeline(quantized)
    first = run(pipeline, "stable_diffusion")
    other = run(pipeline, "stable_diffusion", prompt="french fries")
    run(pipeline, "stable_diffusion", prompt=["french fries", "low quality"])
    assert np.array_equal(run(pipeline, "stable_diffusion"), first) and not np.array_equal(first, other)


def test_a_run_may_begin_in_the_middle(folders):
    """Image to image: the first step asked for refers to nothing, the others to the one before."""
    _, quantized = folders("stable_diffusion")
    random = torch.Generator().manual_seed(0)
    samples = [torch.randn(2, 4, 32, 32, generator=random) for _ in range(3)]
    context = torch.randn(2, 24, 32, generator=random)
    config = default_config("zcu104")
    results = []
    for flow in (DIFFERENCE, ORIGINAL):
        denoiser = wrap(quantized, EmulatorDevice(config, differences=True), flow)
        times = denoiser.artefact.timesteps[1:]
        results.append([denoiser(x, t, context).sample for x, t in zip(samples, times, strict=True)])
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("family", ["stable_diffusion", "latte"])
def test_costs_are_counted_under_the_conditions_of_calibration(folders, family):
    """Profile, compare and similarity run the calibration's prompts with its guidance."""
    artefact = load(folders(family)[1])
    config = fitting(default_config("zcu104"), artefact.graph)
    examples, graph = artefact.example_contexts, artefact.graph
    assert examples is not None and examples.shape[1:] == graph.context_shape
    model = Model(artefact, EmulatorDevice(config))
    counted = model.denoise_as_calibrated(2, 3)
    guidance = Guidance(artefact.quantization["guidance"], context=examples[-1])
    asked = model.denoise(np.arange(2), np.zeros(2, np.int64), 3, context=examples[:2], guidance=guidance)
    assert np.array_equal(counted.samples, asked.samples) and counted.record.samples == 2
    compared = compare(artefact, config, 1)
    assert (compared["images"], compared["batch"]) == (1, 2)
    single = model.denoise_as_calibrated(1).record.counters["cycles"].sum()
    [difference] = [design for design in compared["designs"] if design["name"] == "difference"]
    assert difference["cycles_per_image"] == single
    constant = model.session(2).program.flow.constant
    similarity = measure(artefact, config, 1)
    assert constant and set(similarity.names) == {node.name for node in graph.linear_nodes} - constant
    assert np.isfinite(paper_setting.compare(artefact, similarity, 100, False)["designs"][0]["ms_per_image"])
    lender = Lender(artefact, config, (1, STEPS - 1))
    before, now = lender.operands(graph, lender.lending[-1], lender.transitions[0])
    assert before[0].shape == now[0].shape == (4, *graph.tensors[lender.lending[-1].inputs[0]].shape)


def test_class_transformers_are_calibrated_and_counted_with_guidance(folders):
    """By default that of DiTPipeline, away from the label that stands for no class, which is not drawn itself."""
    artefact = load(folders("dit")[1])
    assert artefact.quantization["guidance"] == 4.0 and artefact.branches == 2
    model = Model(artefact, EmulatorDevice(default_config("zcu104")))
    asked = model.denoise(np.arange(3), np.array([1, 2, 1]), 3, guidance=Guidance(4.0, label=1000))
    counted = model.denoise_as_calibrated(3, 3)
    assert np.array_equal(counted.samples, asked.samples) and counted.record.samples == 3


def test_classes_without_the_null_label_are_drawn_without_guidance(folders, tmp_path):
    folder, _ = folders("dit")
    artefact = quantize(folder, tmp_path / "model", Schedule("ddim", 2, 0.0, 1), Options(2), [1, 2])
    assert artefact.quantization["guidance"] is None and artefact.branches == 1
    drawn = CliRunner().invoke(main, ["generate", str(tmp_path / "model"), "-n", "2", "-o", str(tmp_path / "x.png")])
    assert drawn.exit_code == 0, drawn.output


def test_a_model_without_examples_of_contexts_says_so(folders):
    artefact = dataclasses.replace(load(folders("stable_diffusion")[1]), examples=None)
    with pytest.raises(ValueError, match="has no examples of one; quantize it again"):
        Model(artefact, EmulatorDevice(default_config("zcu104"))).denoise_as_calibrated(1)


def test_guidance_is_two_branches_of_one_group(folders):
    """The runtime's own guided denoising is what two batches, one of each branch, combine to."""
    _, quantized = folders("dit")
    artefact = load(quantized)
    model = Model(artefact, EmulatorDevice(default_config("zcu104"), differences=True))
    labels, indices = np.array([1, 2]), np.arange(2)
    guided = model.denoise(indices, labels, 0, guidance=Guidance(3.0, label=1000))
    sample, scheduler = None, model.scheduler
    branches = [Model(artefact, EmulatorDevice(default_config("zcu104"))) for _ in range(2)]
    sample = np.stack([standard_normal(0, index, 0, artefact.graph.sample_shape) for index in indices])
    for step, timestep in enumerate(artefact.timesteps):
        given = [
            branch.execute(sample, timestep, chosen)[:, :4]
            for branch, chosen in zip(branches, (labels.tolist(), [1000, 1000]), strict=True)
        ]
        sample = scheduler.step(given[1] + 3.0 * (given[0] - given[1]), step, sample)
    assert np.array_equal(guided.samples, sample)


def test_the_folder_has_the_whole_pipeline(folders):
    folder, quantized = folders("stable_diffusion")
    for part in ("vae", "text_encoder", "tokenizer"):
        for path in (folder / part).iterdir():
            assert (quantized / part / path.name).read_bytes() == path.read_bytes()
    assert "vae/config.json" in json.loads((quantized / "manifest.json").read_text())["sha256"]
    assert load(quantized).component == "unet" and load(folders("dit")[1]).component == "transformer"


def test_a_missing_part_is_named(folders, tmp_path):
    _, quantized = folders("stable_diffusion")
    shutil.copytree(quantized, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "vae")
    with pytest.raises(ArtefactError, match=r"vae.*is missing"):
        load_pipeline(tmp_path / "model")
    folder, _ = folders("stable_diffusion")
    shutil.copytree(folder, tmp_path / "float")
    shutil.rmtree(tmp_path / "float" / "tokenizer")
    with pytest.raises(ValueError, match="has no tokenizer, which its prompts need; add them"):
        quantize(tmp_path / "float", tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2))
    assert not (tmp_path / "out").exists()


def test_a_denoiser_alone_draws_no_prompts_but_has_its_costs(folders, tmp_path):
    """As ``quantize_denoiser`` makes them: without a text encoder there are still examples of contexts."""
    save_artefact(load(folders("stable_diffusion")[1]), tmp_path / "model")
    drawn = CliRunner().invoke(main, ["generate", str(tmp_path / "model"), "-o", str(tmp_path / "x.png")])
    assert drawn.exit_code == 1 and "takes prompts and has no pipeline's other parts" in drawn.output
    profiled = CliRunner().invoke(main, ["profile", str(tmp_path / "model"), "--batch", "1", "--json"])
    assert profiled.exit_code == 0 and json.loads(profiled.output)["samples"] == 1


def test_latents_without_a_pipeline_are_no_pictures(folders, tmp_path):
    save_artefact(load(folders("dit")[1]), tmp_path / "model")
    drawn = CliRunner().invoke(main, ["generate", str(tmp_path / "model"), "-o", str(tmp_path / "x.png")])
    assert drawn.exit_code == 1 and drawn.output.startswith("Error: the model's samples are 4x16x16, no pictures, and")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "model_index.json").write_text("{}")
    assert pipeline_class(tmp_path) is None, "an index without a class names no pipeline"


def test_bad_input_is_refused_in_one_line(folders):
    _, quantized = folders("stable_diffusion")
    denoiser = wrap(quantized)
    sample, context, first = torch.zeros(2, 4, 32, 32), torch.zeros(2, 24, 32), denoiser.artefact.timesteps[0]
    cases = (
        ((torch.zeros(2, 4, 64, 64), first, context), {}, "found a sample of 4x64x64, .* quantized for 4x32x32"),
        ((sample, 3, context), {}, "found timestep 3, expected one of the schedule: 751, 501, 251, 1"),
        ((sample, first, None), {}, r"found encoder_hidden_states of shape None, expected \(2, tokens, 32\)"),
        ((sample, first, context[:1]), {}, "expected .2, tokens, 32"),
        ((sample * float("nan"), first, context), {}, "found NaN or infinity in the sample"),
        ((sample.int(), first, context.int()), {}, r"found a sample of torch.int32, expected finite floating-point"),
        ((sample, first, context + float("inf")), {}, "found NaN or infinity in encoder_hidden_states"),
        ((sample, torch.tensor([first, 1]), context), {}, "found timesteps .* in one batch, expected one"),
        (
            (sample, first, context),
            {"encoder_attention_mask": sample},
            "found an encoder_attention_mask that is no .batch, tokens.",
        ),
        (
            (sample, first, context),
            {"down_block_additional_residuals": (sample,)},
            "found down_block_additional_residuals",
        ),
    )
    for given, more, message in cases:
        with pytest.raises(ValueError, match=message):
            denoiser(*given, **more)
    transformer = wrap(folders("dit")[1])
    small, time = torch.zeros(1, 4, 16, 16), transformer.artefact.timesteps[0]
    with pytest.raises(ValueError, match="found label 7, expected 1, 2, 1000"):
        transformer(small, time, class_labels=torch.tensor([7]))
    with pytest.raises(ValueError, match="found no class_labels, expected one per sample"):
        transformer(small, time)
    with pytest.raises(ValueError, match="found encoder_hidden_states, but the model attends to none"):
        transformer(small, time, context[:1], torch.tensor([1]))


def test_a_schedule_that_the_model_was_not_quantized_for(folders):
    _, quantized = folders("stable_diffusion")
    with pytest.raises(ValueError, match=r"found timestep \d+, expected one of the schedule: 751, 501, 251, 1"):
        run(load_pipeline(quantized), "stable_diffusion", steps=7)


def test_what_cannot_be_quantized_is_named_before_calibration(folders, tmp_path):
    folder, _ = folders("dit")
    with pytest.raises(ValueError, match=r"the model has 1001 labels, .* choose some, and 1000"):
        quantize(folder, tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2))
    with pytest.raises(ValueError, match=r"found labels \[2000\], expected some of 0 to 1000"):
        quantize(folder, tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2), labels=[2000])
    with pytest.raises(ValueError, match="takes no prompts"):
        quantize(folder, tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2), labels=[1], prompts=["a"])
    sd, _ = folders("stable_diffusion")
    with pytest.raises(ValueError, match=r"found a prompt of \d+ tokens, expected at most 24"):
        quantize(sd, tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2), prompts=["word " * 60])


def test_nan_in_weights_is_named(folders, tmp_path):
    from diffusers import DiTTransformer2DModel

    folder, _ = folders("dit")
    shutil.copytree(folder, tmp_path / "broken")
    broken = DiTTransformer2DModel.from_pretrained(folder, subfolder="transformer")
    broken.proj_out_2.bias.data[3] = float("nan")
    broken.save_pretrained(tmp_path / "broken" / "transformer")
    with pytest.raises(ValueError, match=r"proj_out_2.bias: found NaN or infinity in 1 of its values"):
        quantize(tmp_path / "broken", tmp_path / "out", Schedule("ddim", 2, 0.0, 1), Options(2), labels=[1])
