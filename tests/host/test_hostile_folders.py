"""A model folder that someone has changed is refused in one line, or runs and equals the reference: nothing else happens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutation_worker import outcome_of
from tests.sound_models import build_all

ROOT = Path(__file__).parents[2]
SIMULATED = 5  # one case in so many runs in the C simulation too


@dataclass(frozen=True)
class Case:
    """What became of a case; ``why`` is the message, or the traceback."""

    number: int
    changed: str
    outcome: str
    why: str


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build_all(tmp_path_factory.mktemp("models"))


def run_cases(models: Path, device: str, first: int, count: int, cache: Path) -> list[Case]:
    """Cases [first, first + count) in processes of their own; a case that ends its process is followed by a new one."""
    cases: list[Case] = []
    while len(cases) < count:
        begin = first + len(cases)
        arguments = (str(models), device, str(begin), str(count - len(cases)), str(cache))
        result = subprocess.run(
            [sys.executable, "-m", "tests.mutation_worker", *arguments], capture_output=True, text=True, cwd=ROOT
        )
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        cases += [
            Case(line["case"], line["changed"], line["outcome"], line["why"]) for line in lines if "outcome" in line
        ]
        if len(cases) < count:
            died = f"the process ended with {result.returncode}: {result.stderr[-1000:]}"
            cases.append(Case(first + len(cases), "", "FAILED", died))
    return cases


def check(cases: list[Case]) -> None:
    failed = [case for case in cases if case.outcome == "FAILED"]
    assert not failed, f"{len(failed)} of {len(cases)}, first: {failed[0].number}: {failed[0].changed}\n{failed[0].why}"
    outcomes = Counter(case.outcome for case in cases)
    assert min(outcomes["refused"], outcomes["runs"]) > len(cases) // 20, outcomes  # both are tried


@pytest.mark.slow
def test_mutated_folders_are_refused_or_run_as_the_reference(models, request, csim_cache):
    check(run_cases(models, "emulator", 0, request.config.getoption("--mutations"), csim_cache))


@pytest.mark.slow
@pytest.mark.hls
def test_the_c_simulation_agrees_on_what_loads(models, request, csim_cache):
    """Few cases: only those that load and run take its time."""
    count = request.config.getoption("--mutations") // SIMULATED
    check(run_cases(models, "csim", 100_000, count, csim_cache))


def test_sound_models_run(models, csim_cache):
    """What mutations start from is not refused: so it is the change that is."""
    for path in sorted(models.iterdir()):
        for in_diffusers in {False, not path.name.startswith("random")}:  # whose contexts may be images
            assert outcome_of(path, "emulator", csim_cache, in_diffusers) == ("runs", ""), path.name
