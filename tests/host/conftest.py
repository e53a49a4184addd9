"""Float pipelines and their quantizations, made once for all tests of a process."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """See :func:`.stock_pipelines.quantizations`; imported where it is used, for it needs the quantizer."""
    from tests.host.stock_pipelines import quantizations

    return quantizations(tmp_path_factory.mktemp("pipelines"))
