"""C simulation: the kernels of a configuration compiled with g++ into a shared library, cached by what it is made of."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..machine.config import HardwareConfig
from .generate import KERNELS, generate, kernel_headers

FLAGS = ("-std=c++17", "-O2", "-march=native", "-fwrapv", "-fPIC", "-shared", "-w")
"""``-fwrapv``: an integer that a damaged program lets overflow wraps, as in hardware and NumPy; ``-w``: the vendor's headers and
unknown pragmas."""
TYPES = ("native", "bits")


class CannotCompile(RuntimeError):
    """The compiler or a header is missing, or the compiler failed; the message says what to do."""


def vendor_headers() -> Path:
    """The folder of ap_int.h and hls_stream.h in the hls4ml package, which is not imported."""
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or spec.origin is None:
        raise CannotCompile(
            "found no ap_int.h: hls4ml, which has it, is not installed; run: pip install 'ditto-zynq[hls]'"
        )
    folder = Path(spec.origin).parent / "templates" / "vivado" / "ap_types"
    if not (folder / "ap_int.h").is_file():
        raise CannotCompile(f"found no ap_int.h in {folder}; run: pip install --force-reinstall 'hls4ml>=1.3,<1.4'")
    return folder


def default_cache() -> Path:
    return Path.home() / ".cache" / "ditto-zynq"


def check_compiler(compiler: str = "g++") -> Path:
    """The folder of the vendor's headers. CannotCompile where they are missing, or the compiler is."""
    if shutil.which(compiler) is None:
        raise CannotCompile(f"found no {compiler}; run: apt-get install g++")
    return vendor_headers()


def build_library(
    config: HardwareConfig,
    cache: Path | None = None,
    compiler: str = "g++",
    announce: Callable[[str], object] = lambda text: None,
) -> Path:
    """The shared library of ``config``, compiled (which is announced) where the cache has none. Raises CannotCompile."""
    headers = check_compiler(compiler)
    cache = default_cache() if cache is None else cache
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        sources = [*generate(config, folder), *kernel_headers()]
        content = b"".join(path.read_bytes() for path in sources) + " ".join((compiler, *FLAGS)).encode()
        library = cache / f"csim-{hashlib.sha256(content).hexdigest()[:16]}.so"
        if library.is_file():
            return library
        announce(
            f"compiling the C simulation of {config.board} {config.digest[:8]} with {compiler}: some ten seconds, once"
        )
        output = folder / "csim.so"
        includes = [f"-I{path}" for path in (folder, KERNELS, headers)]
        command = [compiler, *FLAGS, *includes, str(folder / "csim.cpp"), "-o", str(output)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise CannotCompile(
                f"{compiler} failed: {_first_error(result.stderr)}; the command was: {' '.join(command)}"
            )
        os.replace(output, library)
    return library


def _first_error(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line]
    return lines[0] if lines else text.strip()[:300]


def check_types(types: str) -> None:
    if types not in TYPES:
        raise ValueError(f"found C simulation types {types!r}, expected one of {', '.join(TYPES)}")


class CSimulation:
    """A compiled configuration. ``types``: "native" integers, or "bits" (ap_int, exact widths, some 50 times slower)."""

    def __init__(
        self,
        config: HardwareConfig,
        types: str = "native",
        cache: Path | None = None,
        announce: Callable[[str], object] = lambda text: None,
    ):
        check_types(types)
        library = ctypes.CDLL(str(build_library(config, cache, announce=announce)))
        library.ditto_hash.restype = ctypes.c_uint32
        self.hash = int(library.ditto_hash())
        self._run = getattr(library, f"ditto_run_{types}")
        self._run.restype = ctypes.c_uint32

    def run(
        self, addresses: list[int], sizes: list[int], descriptors: int, progress: ctypes.c_uint32, stop: ctypes.c_uint32
    ) -> int:
        """Run a program on regions at host ``addresses``, in the order of Region; 0, or 1 + the index of a bad descriptor.

        ``progress`` gets 1 + the index of each descriptor that starts; none does once ``stop`` is not 0.
        """
        pointers = (ctypes.c_void_p * len(addresses))(*addresses)
        lengths = (ctypes.c_uint64 * len(sizes))(*sizes)
        return int(
            self._run(pointers, lengths, ctypes.c_uint32(descriptors), ctypes.byref(progress), ctypes.byref(stop))
        )
