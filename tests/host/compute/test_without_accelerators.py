"""The emulator gives the same bits and counts without torch, without numba or without both, and on lesser CPUs."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from tests.cpus import CPUS
from tests.helpers import ROOT, run_without

PROGRAM = """
import hashlib, numpy as np
from tests.host.runs import CONFIG, run_both
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.host.compute import vector
from ditto_zynq.host.devices.emulator import EmulatorDevice
digest = hashlib.sha256()
for seed in range(4):
    build, graph = random_unet(seed)
    device = EmulatorDevice(CONFIG, differences=True)
    for session, expected in run_both(build, graph, device, "difference"):
        assert np.array_equal(session.codes(graph.output), expected[graph.output])
        digest.update(session.codes(graph.output).tobytes() + session.counters().tobytes())
print(device.backend, vector.ACCELERATED, digest.hexdigest())
"""


@pytest.fixture(scope="module")
def everything() -> str:
    return run_without((), PROGRAM).split()[2]


@pytest.mark.parametrize(
    ("missing", "backends", "compiled"),
    [
        (("torch",), {"int16"}, "True"),
        (("numba",), {"vnni", "numpy"}, "False"),
        (("torch", "numba"), {"numpy"}, "False"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)
def test_the_same_bits_and_counts_without(missing, backends, compiled, everything):
    backend, accelerated, digest = run_without(missing, PROGRAM).split()
    assert backend in backends and accelerated == compiled
    assert digest == everything


@pytest.mark.parametrize("cpu", ["avx2", "avx512"])
def test_the_same_bits_and_counts_on_another_cpu(cpu, everything, monkeypatch):
    """In a process in which every library is held to that CPU: oneDNN's products are wrong there, and are not used."""
    if platform.machine() != "x86_64" or (cpu == "avx512" and not torch.cpu._is_avx512_supported()):
        pytest.skip("this CPU has no such instructions")
    for variable in {variable for settings in CPUS.values() for variable in settings}:
        monkeypatch.delenv(variable, raising=False)  # of the CPU that all tests may be held to
    for variable, value in CPUS[cpu].items():
        monkeypatch.setenv(variable, value)
    capability = "\nimport torch; print(torch.backends.cpu.get_cpu_capability())"
    found = run_without((), PROGRAM + capability).split()
    assert found == ["int16", "True", everything, cpu.upper()]


def test_all_tests_can_be_run_as_on_another_cpu():
    command = [sys.executable, str(ROOT / "tests" / "cpus.py")]
    found = subprocess.run([*command, "avx2"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "export ONEDNN_MAX_CPU_ISA=AVX2" in found and "export ATEN_CPU_CAPABILITY=avx2" in found
    unknown = subprocess.run([*command, "z80"], capture_output=True, text=True)
    assert unknown.returncode == 1 and "found CPU 'z80', expected one of native, avx2, avx512" in unknown.stderr
