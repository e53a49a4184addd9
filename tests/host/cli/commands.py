"""Commands as tests call them."""

from __future__ import annotations

from click.testing import CliRunner
from ditto_zynq.host.cli.app import main


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result) -> str:
    """The one line of an error; fails where there is a traceback or more."""
    assert result.exit_code not in (0, None) and isinstance(result.exception, SystemExit), result.exception
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]
