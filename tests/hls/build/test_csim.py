"""The kernels compile; their smallest parts are right over their whole domains; what is missing is named."""

from __future__ import annotations

import importlib.util
import subprocess

import pytest
from ditto_zynq.hls.build import csim
from ditto_zynq.hls.build.csim import CannotCompile, CSimulation, build_library, vendor_headers
from ditto_zynq.hls.build.generate import KERNELS, generate
from ditto_zynq.hls.machine.config import HardwareConfig, default_config
from ditto_zynq.host.devices.csim import CSimDevice

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
    const int extremes[] = {-128, -127, -1, 0, 1, 126, 127}, digits[] = {-256, -240, -16, -1, 0, 1, 15, 16, 240};
    long long state = 1;
    for (int a0 : extremes) for (int b0 : extremes) for (int d0 : digits)
        for (int round = 0; round < 50; ++round) {
            typename A::code a[A::chained], b[A::chained];
            typename A::difference d[A::chained];
            int sum_a = 0, sum_b = 0;
            for (int lane = 0; lane < A::chained; ++lane) {  // all lanes alike, then some at random
                state = (state * 6364136223846793005LL + 1442695040888963407LL);
                const bool random = round > 0 && ((state >> 40) & 1);
                const int x = random ? int((state >> 33) & 255) - 128 : a0, y = random ? int((state >> 41) & 255) - 128 : b0;
                const int z = random ? digits[(state >> 49) & 7] : d0;
                a[lane] = x; b[lane] = y; d[lane] = z;
                sum_a += x * z; sum_b += y * z;
            }
            typename A::accumulator found_a, found_b;
            A::multiply_chain(a, b, d, found_a, found_b);
            if (found_a != sum_a || found_b != sum_b) return 2;
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


@pytest.mark.parametrize("board", ["zcu104", "pynq-z2"])
def test_digits_and_chains_of_packed_products(board, tmp_path):
    """16 x high + low is d for all 512 differences; sums of products of two weights and digits come apart again."""
    generate(default_config(board), tmp_path)
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
    with pytest.raises(CannotCompile, match=r"hls4ml, which has it, is not installed"):  # and not in a thread, later
        CSimDevice(HardwareConfig(), cache=tmp_path)


def test_unknown_types_are_refused(tmp_path):
    with pytest.raises(ValueError, match="found C simulation types 'float', expected one of native, bits"):
        CSimulation(HardwareConfig(), "float", tmp_path)
