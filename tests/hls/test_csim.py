"""The kernels compile; their smallest parts are right over their whole domains; what is missing is named."""

from __future__ import annotations

import importlib.util
import subprocess

import pytest
from ditto_zynq.hls import csim
from ditto_zynq.hls.config import HardwareConfig
from ditto_zynq.hls.csim import CannotCompile, CSimulation, build_library, vendor_headers
from ditto_zynq.hls.generate import KERNELS, generate

from tests.hls.configs import CONFIGS

pytestmark = pytest.mark.hls

CHECK = r"""
#include "config.hpp"
#include "encoder.hpp"
#include <cstdio>
template <class Types> int check() {
    typedef ditto::Config<Types> C;
    typedef ditto::Arithmetic<C> A;
    for (int d = -256; d <= 255; ++d) {
        typename A::digit high, low;
        A::split(d, high, low);
        if (16 * int(high) + int(low) != d || (d >= -16 && d <= 15 && high != 0)) return 1;
    }
    for (int a = -128; a < 128; ++a)
        for (int b = -128; b < 128; ++b)
            for (int d = -16; d < 16; ++d) {
                typename A::accumulator x, y;
                A::template multiply_packed<14>(a, b, d, x, y);
                if (x != a * d || y != b * d) return 2;
                for (int factor = 1; factor <= 16; factor *= 16) {
                    A::template multiply_packed<17>(a, b, d * factor, x, y);
                    if (x != a * d * factor || y != b * d * factor) return 2;
                    A::multiply_pair(a, b, d, factor == 16, x, y);
                    if (x != a * d * factor || y != b * d * factor) return 4;
                }
            }
    for (int shift = 0; shift < 40; ++shift)
        for (long long x : {0LL, 1LL, -1LL, 12345678901LL, -12345678901LL, (1LL << 31) + 1, -(1LL << 31) - 1}) {
            long long expected = shift ? (x + (1LL << (shift - 1))) >> shift : x;
            if ((long long)A::round_shift(x, shift) != expected) return 3;
        }
    return 0;
}
int main() { int a = check<ditto::NativeTypes>(), b = check<ditto::BitTypes>(); std::printf("%d %d", a, b); return a + b; }
"""


def test_digits_and_packed_products_over_their_whole_domain(tmp_path):
    """16 x high + low is d for all 512 differences; all products of two weights and a digit come apart again."""
    generate(HardwareConfig(), tmp_path)
    (tmp_path / "check.cpp").write_text(CHECK)
    includes = [f"-I{path}" for path in (tmp_path, KERNELS, vendor_headers())]
    command = ["g++", "-std=c++17", "-O2", "-w", *includes, "check.cpp", "-o", "check"]
    subprocess.run(command, cwd=tmp_path, check=True)
    result = subprocess.run(["./check"], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == "0 0"


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_top_function_compiles_without_warnings_of_our_own(config, tmp_path):
    generate(config, tmp_path)
    command = [
        "g++",
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Wno-unknown-pragmas",
        "-Wno-unused-label",
        "-Werror",
        "-fsyntax-only",
    ]
    includes = [f"-I{tmp_path}", f"-I{KERNELS}", "-isystem", str(vendor_headers())]
    subprocess.run([*command, *includes, str(tmp_path / "top.cpp")], check=True)


def test_the_library_is_cached_by_what_it_is_made_of(tmp_path):
    first = build_library(HardwareConfig(cores=1), tmp_path)
    modified = first.stat().st_mtime_ns
    assert build_library(HardwareConfig(cores=1), tmp_path) == first and first.stat().st_mtime_ns == modified
    assert CSimulation(HardwareConfig(cores=1), cache=tmp_path).hash == HardwareConfig(cores=1).register_hash
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name], "something else was left behind"


def test_what_is_missing_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    with pytest.raises(CannotCompile, match=r"found no g\+\+-99; run: apt-get install g\+\+"):
        build_library(HardwareConfig(), tmp_path, compiler="g++-99")
    monkeypatch.setattr(csim, "FLAGS", (*csim.FLAGS, "-DNAN_SYNTAX=1", "-include", "nowhere.hpp"))
    with pytest.raises(CannotCompile, match=r"g\+\+ failed: .*nowhere\.hpp"):
        build_library(HardwareConfig(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        CannotCompile, match=r"hls4ml, which has it, is not installed; run: pip install 'ditto-zynq\[hls\]'"
    ):
        build_library(HardwareConfig(), tmp_path)


def test_unknown_types_are_refused(tmp_path):
    with pytest.raises(ValueError, match="found C simulation types 'float', expected one of native, bits"):
        CSimulation(HardwareConfig(), "float", tmp_path)
