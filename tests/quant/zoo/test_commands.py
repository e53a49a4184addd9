"""What the commands that train have in common."""

from __future__ import annotations

import click
import pytest
import torch
from click.testing import CliRunner
from ditto_zynq.quant.zoo.commands import training

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyboardInterrupt(), "Error: interrupted; the same command goes on from the last checkpoint"),
        (ValueError("found 0 steps"), "Error: found 0 steps"),
        (FileNotFoundError("no such data"), "Error: no such data"),
    ],
)
def test_expected_errors_are_one_line(error, line):
    @click.command()
    @training
    def command() -> None:
        raise error

    result = CliRunner().invoke(command)
    assert result.exit_code == 1 and result.stderr.splitlines() == [line]


def test_threads():
    @click.command()
    @training
    def command() -> None:
        click.echo(torch.get_num_threads())

    assert CliRunner().invoke(command, ["--threads", "2"]).stdout == "2\n"
