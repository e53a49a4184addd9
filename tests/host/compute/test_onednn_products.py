"""oneDNN saturates where a CPU has no VNNI: that is noticed."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cpus import CPUS


def test_the_self_test_catches_saturating_sums():
    """Without VNNI instructions oneDNN's int8 sums saturate at 16 bits: made so here, the self-test must notice."""
    code = (
        "import torch; torch.cpu._is_vnni_supported = lambda: True\n"
        "from ditto_zynq.host.compute import products\n"
        "test, ran = products._passes_self_test, []\n"
        "products._passes_self_test = lambda backend: (ran.append(backend), test(backend))[1]\n"
        "print(products.vnni_is_exact(), products.choose_backend(), *ran)"
    )
    environment = {**os.environ, **CPUS["avx2"]}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["False", "int16", "vnni", "int16"]
