"""Other x86 CPUs than this one: the settings that make every library of the tests compute as it would there.

They are read when a process starts, so each is for a process of its own; a CPU can only do without what it has. Run as a
program this prints one of them for a shell: ``scripts/test --cpu avx2`` runs all tests so.

onnxruntime asks the CPU itself and has no such setting: its results under ``--cpu avx2`` are those of this CPU. That QONNX
models are exact elsewhere is shown by the types of their products (tests/quant/qonnx/test_export.py). What a machine lacks is
compiled from the same sources for what it has; the code around VNNI's products runs with others (tests/helpers.py).
"""

from __future__ import annotations

import shlex
import sys

_AVX2 = "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+movbe,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt"
_AVX512 = f"{_AVX2},+avx512f,+avx512cd,+avx512bw,+avx512dq,+avx512vl"
_NUMPY_AVX512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"

# oneDNN, PyTorch's own kernels, numba's LLVM, OpenBLAS, NumPy
CPUS: dict[str, dict[str, str]] = {
    "native": {},
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": _AVX2,
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": _NUMPY_AVX512,
    },
    "avx512": {  # without VNNI
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "NUMBA_CPU_NAME": "skylake-avx512",
        "NUMBA_CPU_FEATURES": _AVX512,
        "OPENBLAS_CORETYPE": "SkylakeX",
        "NPY_DISABLE_CPU_FEATURES": "AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    },
}
WITH_VNNI = {"NUMBA_CPU_NAME": "icelake-server", "NUMBA_CPU_FEATURES": f"{_AVX512},+avx512vnni"}  # to compile for


def main(name: str) -> None:
    if name not in CPUS:
        sys.exit(f"error: found CPU {name!r}, expected one of {', '.join(CPUS)}")
    for variable, value in CPUS[name].items():
        print(f"export {variable}={shlex.quote(value)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
