"""Files that are whole or not there; more is in host/common/test_files.py."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.common.files import beside, check_kind, replacing_file, write_atomically


def test_a_file_is_replaced_at_the_end(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with replacing_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda file: file.write(b"half") / 0)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_errors_speak_of_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "missing" / "x"
    with pytest.raises(FileNotFoundError) as error, beside(path, named=path) as temporary:
        temporary.write_text("x")
    assert error.value.filename == str(path)
    with pytest.raises(ValueError, match="expected a file, not a folder"):
        check_kind(tmp_path)
