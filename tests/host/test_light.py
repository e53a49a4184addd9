"""The board's side is light: the bare wheel generates the same images in fresh environments, on older Python and on arm64."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ditto_zynq.hls.config import default_config
from ditto_zynq.host.emulator import EmulatorDevice
from ditto_zynq.host.runtime import Model

ROOT = Path(__file__).parents[2]
RUNTIME = ("numpy", "click", "pillow", "safetensors", "tqdm")  # all that the bare install may bring
HEAVY = {"torch", "diffusers", "brevitas", "pynq", "numba", "scipy", "distributed"}
DEBIAN = (
    "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libsqlite3-0",
    "libuuid1", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
)  # fmt: skip


def run(*command: object, **options) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves files beside the sources
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "build", "__pycache__", ".*cache")
    )
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def expected(tiny_model) -> np.ndarray:
    device = EmulatorDevice(default_config("zcu104"), counting=False)
    return Model(tiny_model, device).generate(3, None, 0, 2, progress=False).samples


def interpreter(version: str) -> str | None:
    """A Python of this version that runs: on PATH, or pyenv's."""
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for candidate in (f"python{version}", *pyenv):
        path = shutil.which(str(candidate))
        if path and subprocess.run([path, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return path
    return None


GENERATE = ("-m", "ditto_zynq.host.cli", "generate")
OPTIONS = ("-n", 3, "--batch", 2, "--quiet")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.10"])
def test_a_fresh_environment(version, wheel, tmp_path, tiny_folder, expected):
    python = sys.executable if sys.version.startswith(f"{version}.") else interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    run(python, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    installed = {line.split("==")[0].split(" @")[0].lower() for line in run(python, "-m", "pip", "freeze").splitlines()}
    assert installed == {"ditto-zynq", *RUNTIME} and not installed & HEAVY
    run(python, *GENERATE, tiny_folder, "-o", tmp_path / "images.npz", *OPTIONS, cwd=tmp_path)
    assert np.array_equal(np.load(tmp_path / "images.npz")["samples"], expected)


@pytest.mark.slow
def test_pynq_3_1(wheel, tmp_path):
    """The driver's selftest with the pynq of older board images."""
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("pynq==")]
    (tmp_path / "constraints.txt").write_text("\n".join([*pins, "pynq==3.1.2"]))
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "-c",
        tmp_path / "constraints.txt",
        f"{wheel}[board]",
        "jinja2",
        "setuptools<81",
    )
    assert "pynq==3.1.2" in run(python, "-m", "pip", "freeze")
    command = ("-m", "ditto_zynq.host.cli", "selftest", "--device", "pynq-emulator", "--batch", 1)
    assert run(python, *command, cwd=tmp_path).count("pass  ") == 8


def debian_arm64(folder: Path) -> Path:
    """The files of Debian's Python 3.11 for arm64, fetched by an apt with lists of its own; nothing is installed."""
    for name in ("lists/partial", "cache/archives/partial", "state", "packages"):
        (folder / name).mkdir(parents=True)
    (folder / "state" / "status").touch()
    options = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State": folder / "state",
        "Dir::State::status": folder / "state" / "status", "Dir::State::lists": folder / "lists", "Dir::Cache": folder / "cache",
    }  # fmt: skip
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    if os.getuid() == 0:
        apt.append("-oAPT::Sandbox::User=root")
    run(*apt, "update")
    run(*apt, "download", *DEBIAN, cwd=folder / "packages")
    for package in (folder / "packages").glob("*.deb"):
        run("dpkg", "-x", package, folder / "root")
    return folder / "root"


@pytest.mark.slow
def test_arm64(wheel, tmp_path, tiny_folder, expected):
    """The processors of the boards, emulated by QEMU: real arm64 builds of Python and NumPy."""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if not (shutil.which("qemu-aarch64-static") and shutil.which("apt-get") and "VERSION_CODENAME=bookworm" in release):
        pytest.skip("needs Debian 12 and qemu-aarch64-static (apt-get install qemu-user-static)")
    root, site = debian_arm64(tmp_path / "debian"), tmp_path / "site"
    platforms = (
        "--platform",
        "manylinux2014_aarch64",
        "--platform",
        "manylinux_2_28_aarch64",
        "--python-version",
        "311",
    )
    run(
        sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms,
        "-c", ROOT / "constraints.txt", "-d", tmp_path / "wheels", *RUNTIME,
    )  # fmt: skip
    for path in (wheel, *(tmp_path / "wheels").glob("*.whl")):
        zipfile.ZipFile(path).extractall(site)
    python = ("qemu-aarch64-static", "-L", root, "-E", f"PYTHONPATH={site}", root / "usr" / "bin" / "python3.11")
    assert run(*python, "-c", "import platform; print(platform.machine())") == "aarch64\n"
    run(*python, *GENERATE, tiny_folder, "-o", tmp_path / "images.npz", *OPTIONS, cwd=tmp_path)
    assert np.array_equal(np.load(tmp_path / "images.npz")["samples"], expected)
