"""Pictures and clips out of npm's archives."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.quant.zoo import emoji

from tests.quant.zoo.conftest import GROUPS


def test_pictures(data):
    pictures = emoji.load_pictures(data)
    assert pictures.captions[:3] == ("red heart", "grinning face", "slice of pizza")
    assert pictures.captions[6:] == ("waving hand", "waving hand light skin"), "what has no picture is left out"
    assert [emoji.CATEGORIES[label] for label in pictures.labels] == [*GROUPS, "People & Body", "People & Body"]
    assert pictures.images.shape == (8, 64, 64, 3) and (pictures.images[:, :8] == 255).all()


def test_clips(data):
    """Evenly spaced frames of what is an animation and has a caption, once more from what was kept."""
    for _ in range(2):
        clips = emoji.load_clips(data, 24)
        assert clips.captions == ("red heart", "grinning face", "slice of pizza")
        assert clips.frames.shape == (3, 24, 64, 64, 3)
        assert np.array_equal(clips.frames[0, :, 0, 0, 0], 8 * np.arange(24))


def test_a_package_that_cannot_be_fetched(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"emoji-datasource-google-16.0.0.tgz is missing and 'npm pack .* put the file"
    ):
        emoji.load_pictures(tmp_path / "data")
    assert f"fetching {emoji.PICTURES} with npm into {tmp_path / 'data'}" in capsys.readouterr().err
