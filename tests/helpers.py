"""What tests of several files need."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 600  # of what should take seconds: whoever takes longer hangs, on any machine


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Return as soon as ``holds()``; AssertionError that names ``what`` where it has not for ``LIMIT_S`` seconds."""
    for _ in range(100 * LIMIT_S):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError(f"found no end after {LIMIT_S} s, expected that {what}")


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    """Read ``path``, let ``change`` alter what it holds, and write it."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def compute_as_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the backend ``vnni`` on any CPU: all of its code, with exact products of float64 for those of oneDNN."""
    import torch

    def packed(weight: torch.Tensor, *_: object) -> torch.Tensor:
        return weight

    def convolve(x, scale, zero, weight, scales, zeros, bias, stride, padding, *_: object) -> torch.Tensor:
        assert x.dtype == torch.uint8 and weight.dtype == torch.int8
        return torch.nn.functional.conv2d(x.double() - zero, weight.double(), None, stride, padding).float()

    def multiply(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        assert left.dtype == right.dtype == torch.int8
        return (left.double() @ right.double()).int()

    class Torch:
        ops = SimpleNamespace(onednn=SimpleNamespace(qconv_prepack=packed, qconv2d_pointwise=convolve))
        _int_mm = staticmethod(multiply)

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    monkeypatch.setattr("ditto_zynq.host.compute.onednn_products._torch", Torch)
    monkeypatch.setattr("ditto_zynq.host.compute.products.vnni_is_exact", lambda: True)


def run_without(packages: tuple[str, ...], code: str) -> str:
    """Run code in a fresh interpreter in which ``packages`` cannot be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
    result = subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout
