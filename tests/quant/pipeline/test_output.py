"""Output folders that are not replaced, or cannot be written."""

from __future__ import annotations

import pytest
from ditto_zynq.quant.quantize import quantize

from tests.quant.refusals import OPTIONS, SCHEDULE


def test_another_models_folder_is_not_replaced(tiny_folder, pixels):
    before = sorted(path.name for path in tiny_folder.parent.iterdir())
    manifest = (tiny_folder / "manifest.json").read_text()
    with pytest.raises(ValueError, match="holds a quantized model; give another output folder, or --overwrite"):
        quantize(pixels, tiny_folder, SCHEDULE, OPTIONS)
    assert (tiny_folder / "manifest.json").read_text() == manifest
    assert sorted(path.name for path in tiny_folder.parent.iterdir()) == before


def test_with_overwrite_it_is(tiny_folder, pixels):
    manifest = (tiny_folder / "manifest.json").read_text()
    quantize(pixels, tiny_folder, SCHEDULE, OPTIONS, overwrite=True)
    assert (tiny_folder / "manifest.json").read_text() != manifest


def test_an_output_that_cannot_be_written_is_found_first(pixels, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        quantize(pixels, tmp_path / "file" / "out", SCHEDULE, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
