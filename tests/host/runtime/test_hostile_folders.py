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

ROOT = Path(__file__).parents[3]
SIMULATED = 5  # one case in so many runs in the C simulation too


@dataclass(frozen=True)
class Case:
    """What became of a case; ``why`` is the message, or the traceback."""

    number: int
    changed: str
    outcome: str
    why: str


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_model) -> Path:
    return build_all(tmp_path_factory.mktemp("models"), tiny_model)


def run_cases(models: Path, device: str, count: int, cache: Path) -> list[Case]:
    """The first ``count`` cases in processes of their own; a case that ends its process is followed by a new one."""
    cases: list[Case] = []
    while len(cases) < count:
        arguments = (str(models), device, str(len(cases)), str(count - len(cases)), str(cache))
        command = [sys.executable, "-m", "tests.mutation_worker", *arguments]
        try:
            result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600 + 10 * count)
            output, died = result.stdout, f"the process ended with {result.returncode}: {result.stderr[-1000:]}"
        except subprocess.TimeoutExpired as error:
            output, died = (error.stdout or b"").decode(), "it hangs"
        lines = [json.loads(line) for line in output.splitlines() if line.endswith("}")]
        cases += [
            Case(line["case"], line["changed"], line["outcome"], line["why"]) for line in lines if "outcome" in line
        ]
        if len(cases) < count:
            cases.append(Case(len(cases), "", "FAILED", died))
    return cases


def check(cases: list[Case]) -> None:
    failed = [case for case in cases if case.outcome == "FAILED"]
    assert not failed, f"{len(failed)} of {len(cases)}, first: {failed[0].number}: {failed[0].changed}\n{failed[0].why}"
    outcomes = Counter(case.outcome for case in cases)
    assert min(outcomes["refused"], outcomes["runs"]) > len(cases) // 20, outcomes  # both are tried


@pytest.fixture(scope="module")
def emulated(models, request, csim_cache) -> list[Case]:
    return run_cases(models, "emulator", request.config.getoption("--mutations"), csim_cache)


@pytest.mark.slow
def test_mutated_folders_are_refused_or_run_as_the_reference(emulated):
    check(emulated)


@pytest.mark.slow
@pytest.mark.hls
def test_the_c_simulation_agrees_on_what_loads(models, emulated, csim_cache):
    """On the first cases what is refused is so with the same words, and what runs runs: the others would take its time."""
    count = len(emulated) // SIMULATED
    simulated = run_cases(models, "csim", count, csim_cache)
    check(simulated)
    assert simulated == emulated[:count]


def test_sound_models_run(models, csim_cache):
    """What mutations start from is not refused: so it is the change that is."""
    for path in sorted(models.iterdir()):
        for in_diffusers in (False, True):
            assert outcome_of(path, "emulator", csim_cache, in_diffusers) == ("runs", ""), path.name
