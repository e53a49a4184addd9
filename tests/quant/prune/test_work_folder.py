"""The folder of a pruning under way."""

from __future__ import annotations

import pytest
from ditto_zynq.quant.prune.work_folder import work_folder


def test_it_goes_at_the_end_and_stays_after_an_error(tmp_path):
    path = tmp_path / "out.partial"
    with pytest.raises(KeyboardInterrupt), work_folder(path, {"seed": 0}) as work:
        (work / "done").write_text("")
        raise KeyboardInterrupt
    with work_folder(path, {"seed": 0}) as work:
        assert (work / "done").is_file()
    assert not path.exists()


def test_other_settings_and_other_folders_are_left_alone(tmp_path):
    path = tmp_path / "out.partial"
    with pytest.raises(KeyboardInterrupt), work_folder(path, {"seed": 0}):
        raise KeyboardInterrupt
    with (
        pytest.raises(ValueError, match="is of a pruning with other settings; remove it"),
        work_folder(path, {"seed": 1}),
    ):
        pass
    (path / "settings.json").unlink()
    (path / "thesis").write_text("mine")
    with (
        pytest.raises(ValueError, match="is no pruning's folder and not empty; move it"),
        work_folder(path, {"seed": 0}),
    ):
        pass
    assert (path / "thesis").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file"), work_folder(tmp_path / "file", {}):
        pass


def test_one_at_a_time(tmp_path):
    with (
        work_folder(tmp_path / "out", {}),
        pytest.raises(ValueError, match="another process prunes in"),
        work_folder(tmp_path / "out", {}),
    ):
        pass
