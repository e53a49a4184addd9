"""Small float pipelines, made once for all tests of a process: tests change copies of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ditto_zynq.quant.zoo import ddpm
from ditto_zynq.quant.zoo.fashion_mnist import Split

from tests.pipelines import save


@pytest.fixture(scope="session")
def pixels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pixels") / "float"
    save("ddim", folder)
    return folder


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "float"
    save("stable_diffusion", folder)
    return folder


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_data(monkeypatch):
    random = np.random.default_rng(0)
    split = Split(random.integers(0, 256, (20, 28, 28)).astype(np.uint8), (np.arange(20) % 10).astype(np.uint8))
    monkeypatch.setattr(ddpm, "load_split", lambda name: split)
