"""The board's side is light: the bare wheel generates the same images in fresh environments, on older Python and on arm64."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.runtime.model import Model

ROOT = Path(__file__).parents[2]
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RUNTIME = ("numpy", "click", "pillow", "safetensors", "tqdm")  # all that the bare install may bring
HEAVY = {"torch", "diffusers", "brevitas", "pynq", "numba", "scipy", "distributed"}
PYTHON_3_11 = (
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libssl3",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
    "libsqlite3-0",
    "libuuid1",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
)
PYTHON_3_13 = (
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libssl3t64",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
    "libsqlite3-0",
    "libuuid1",
    "libzstd1",
    "python3.13-minimal",
    "libpython3.13-minimal",
    "libpython3.13-stdlib",
)


def run(*command: object, **options) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves files beside the sources
    left_out = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".*cache")
    built = {"build", "dist"}  # at the top only: hls/build/ is a floor
    shutil.copytree(ROOT, source, ignore=lambda at, names: left_out(at, names) | (built if Path(at) == ROOT else set()))
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


def debian_sources(folder: Path, suite: str) -> None:
    """Sources of Debian's own packages of ``suite``, from the mirror that this machine takes them from, in whatever form."""
    listed = [*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    lists = [source.read_text() for source in listed if source.suffix in (".list", ".sources")]
    mirror = re.search(r"^(?:deb |URIs:).*?(https?://\S+/debian)/?(?:\s|$)", "\n".join(lists), re.MULTILINE)
    address = mirror[1] if mirror else "http://deb.debian.org/debian"
    folder.mkdir(parents=True)
    signed = f"[signed-by={KEYRING}]" if KEYRING.exists() else ""
    (folder / "debian.list").write_text(f"deb {signed} {address} {suite} main\n")


def debian_python(folder: Path, suite: str, architecture: str, packages: tuple[str, ...]) -> Path:
    """The files of Debian's Python, fetched by an apt with lists of its own; nothing is installed."""
    for name in ("lists/partial", "cache/archives/partial", "state", "packages"):
        (folder / name).mkdir(parents=True)
    (folder / "state" / "status").touch()
    debian_sources(folder / "sources.list.d", suite)
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state" / "status",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "none",
        "Dir::Etc::sourceparts": folder / "sources.list.d",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    if os.getuid() == 0:
        apt.append("-oAPT::Sandbox::User=root")
    run(*apt, "update")
    run(*apt, "download", *packages, cwd=folder / "packages")
    for package in (folder / "packages").glob("*.deb"):
        run("dpkg", "-x", package, folder / "root")
    return folder / "root"


def unpack(wheel: Path, folder: Path, machine: str, version: str, packages: tuple[str, ...]) -> Path:
    """The project and the pinned wheels of another platform, as they would be installed there."""
    platforms = [f"--platform=manylinux{glibc}_{machine}" for glibc in ("2014", "_2_27", "_2_28")]
    run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        *platforms,
        f"--python-version={version}",
        "-c",
        constraints_for(version, folder),
        "-d",
        folder / "wheels",
        *packages,
    )
    for path in (wheel, *(folder / "wheels").glob("*.whl")):
        zipfile.ZipFile(path).extractall(folder / "site")
    return folder / "site"


def constraints_for(version: str, folder: Path) -> Path:
    """The pins of a Python version: pip judges a line's markers by the Python that it runs on."""
    from packaging.requirements import Requirement

    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
    kept = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": version})]
    path = folder / "constraints.txt"
    path.write_text("\n".join(f"{pin.name}{pin.specifier}" for pin in kept))
    return path


def is_debian_12() -> bool:
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    return shutil.which("apt-get") is not None and "VERSION_CODENAME=bookworm" in release


@pytest.mark.slow
def test_arm64(wheel, tmp_path, tiny_folder, expected):
    """The processors of the boards, emulated by QEMU: real arm64 builds of Python and NumPy."""
    if not (is_debian_12() and shutil.which("qemu-aarch64-static")):
        pytest.skip("needs Debian 12 and qemu-aarch64-static (apt-get install qemu-user-static)")
    root = debian_python(tmp_path / "debian", "bookworm", "arm64", PYTHON_3_11)
    site = unpack(wheel, tmp_path, "aarch64", "3.11", RUNTIME)
    python = ("qemu-aarch64-static", "-L", root, "-E", f"PYTHONPATH={site}", root / "usr" / "bin" / "python3.11")
    assert run(*python, "-c", "import platform; print(platform.machine())") == "aarch64\n"
    run(*python, *GENERATE, tiny_folder, "-o", tmp_path / "images.npz", *OPTIONS, cwd=tmp_path)
    assert np.array_equal(np.load(tmp_path / "images.npz")["samples"], expected)


@pytest.mark.slow
def test_python_3_13_with_numpy_2(wheel, tmp_path, tiny_folder, expected):
    """What a laptop of today has: only pynq keeps NumPy below 2. With numba, as scripts/demo installs it."""
    if not (is_debian_12() and platform.machine() == "x86_64"):
        pytest.skip("needs Debian 12 on x86_64, from where apt can fetch the next release's Python")
    root = debian_python(tmp_path / "debian", "trixie", "amd64", PYTHON_3_13)
    site = unpack(wheel, tmp_path, "x86_64", "3.13", (*RUNTIME, "numba", "llvmlite"))
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    python = (libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, root / "usr" / "bin" / "python3.13")
    environment = os.environ | {"PYTHONPATH": str(site)}
    versions = run(*python, "-c", "import sys, numpy; print(*sys.version_info[:2], numpy.__version__)", env=environment)
    assert versions.startswith("3 13 2.")
    run(*python, *GENERATE, tiny_folder, "-o", tmp_path / "images.npz", *OPTIONS, cwd=tmp_path, env=environment)
    assert np.array_equal(np.load(tmp_path / "images.npz")["samples"], expected)
