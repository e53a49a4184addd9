"""Small float pipelines, made once for all tests of a process: tests change copies of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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
