"""Small real components that many tests share: a U-Net with random weights, and its quantization."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ditto_zynq.hls.artefact import model as artefact
from ditto_zynq.hls.artefact.model import QuantizedModel, save
from hypothesis import HealthCheck, settings

# how fast examples are drawn and run depends on the machine and its load; the same ones in every run, whatever failed before
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hostile-cases", type=int, default=120, help="Damaged programs that run on each device.")
    parser.addoption("--mutations", type=int, default=240, help="Mutated model folders that are loaded and run.")
    parser.addoption("--architectures", type=int, default=16, help="Random denoisers that are quantized.")


SCHEDULER_CONFIG = {"num_train_timesteps": 1000, "beta_schedule": "linear", "prediction_type": "epsilon"}


@pytest.fixture(scope="session")
def tiny_unet():
    """A class-conditional U-Net with odd widths: attention, strided and asymmetric downsampling, upsampling."""
    import torch
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(12, 20),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=5,
        downsample_padding=0,
        num_class_embeds=3,
    ).eval()


@pytest.fixture(scope="session")
def cifar10_unet():
    """The 35.7 M-parameter U-Net of DDPM on CIFAR-10 (Ho et al. 2020), with random weights."""
    import torch
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        attention_head_dim=None,
    ).eval()


@pytest.fixture(scope="session")
def tiny_model(tiny_unet) -> QuantizedModel:
    """``tiny_unet`` quantized for 6 DDIM steps in 3 groups."""
    from ditto_zynq.quant.calibrate.calibration import Options
    from ditto_zynq.quant.quantize import Schedule, quantize_denoiser

    return quantize_denoiser(tiny_unet, SCHEDULER_CONFIG, Schedule("ddim", 6, 0.0, 3), Options(trajectories=3))


@pytest.fixture
def tiny_folder(tiny_model, tmp_path) -> Path:
    folder = tmp_path / "model"
    save(tiny_model, folder)
    return folder


@pytest.fixture
def model_reads(monkeypatch) -> list[Path]:
    """The folder of every model that is read and hashed, each time it is."""
    read, check = [], artefact.check_files

    def checked(folder: Path, manifest: artefact.Manifest) -> None:
        read.append(folder)
        check(folder, manifest)

    monkeypatch.setattr(artefact, "check_files", checked)
    return read


@pytest.fixture(scope="session")
def csim_cache(tmp_path_factory, request) -> Path:
    """Compiled C simulations, shared by all tests and all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "ditto-zynq"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def nothing_of_the_users_is_written(tmp_path_factory, csim_cache) -> Iterator[None]:
    """A home and a folder of temporary files for the run, also of the processes that it starts. Of the user's own, pip, its
    interpreters and matplotlib's list of fonts are found."""
    home, before = tmp_path_factory.mktemp("home"), Path.home()
    (home / ".cache").mkdir()
    (home / ".cache" / "ditto-zynq").symlink_to(csim_cache)
    for name in (".config", ".pip", ".pyenv", ".cache/pip", ".cache/matplotlib"):
        if (before / name).exists():
            (home / name).symlink_to(before / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("XDG_CACHE_HOME", raising=False)
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setattr("tempfile.tempdir", None)
        yield


@pytest.fixture
def no_reuse(monkeypatch):
    """Give each tensor memory of its own, so that every intermediate result can be compared after a step."""
    from ditto_zynq.host.program import memory_map

    def side_by_side(intervals, sizes):
        offsets, total = {}, 0
        for name in intervals:
            offsets[name] = total
            total = memory_map.align(total + sizes[name])
        return offsets, total

    monkeypatch.setattr(memory_map, "allocate", side_by_side)
