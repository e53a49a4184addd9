"""Small float pipelines, made once for all tests of a process: tests change copies of them."""

from __future__ import annotations

from pathlib import Path

import pytest

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
