"""Steps of a batch that may start anew are reported once each."""

from __future__ import annotations

from ditto_zynq.host.runtime.progress import OnceEach, progress_bar


def test_a_batch_that_starts_anew_reports_its_new_steps_only():
    reported = []
    each = OnceEach(lambda: reported.append(len(reported)))
    for _ in range(3):
        each()
    each.restart()
    for _ in range(3):
        each()
    assert reported == [0, 1, 2]
    each()
    assert reported == [0, 1, 2, 3]


def test_a_bar_is_shown_where_it_is_asked_for(capsys):
    for shown in (False, True):
        with progress_bar(shown, 4) as advance:
            for _ in range(4):
                advance()
        assert ("denoise: 100%" in capsys.readouterr().err) == shown
