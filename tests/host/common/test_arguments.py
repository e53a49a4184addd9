"""What callers may give to models, sessions, jobs and the drop-in: all else is one line with what was found and expected."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.common.arguments import integer, number, real_array
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.diffusers.drawing import Request
from ditto_zynq.host.diffusers.drop_in import wrap
from ditto_zynq.host.program.compiler import DoesNotFit, compile_program
from ditto_zynq.host.runtime import agreement
from ditto_zynq.host.runtime.agreement import compare
from ditto_zynq.host.runtime.fleet import Job
from ditto_zynq.host.runtime.model import Model, check_run
from ditto_zynq.host.runtime.session import ORIGINAL, Session

CONFIG = default_config("zcu104")
REFUSED = (TypeError, ValueError)
DEADLINES = [-1, 0, float("nan"), float("inf"), 1e300, 10**400, "x", "5", None, True, [1], 1j]
MEMORIES = [0, -1, "x", 1.5, True, 10**30, float("nan"), [1]]
FLOWS = ["nonsense", "", 3, ["original"]]
DEVICES = ["emulator", "cpu", torch.device("cpu"), EmulatorDevice, {}, 7]
ARGUMENTS = [
    *(("deadline_s", value) for value in DEADLINES),
    *(("memory_mib", value) for value in MEMORIES),
    *(("flow", value) for value in FLOWS),
    *(("device", value) for value in DEVICES),
]


def in_one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and text.startswith("found ") and "expected " in text and len(text) < 400, text
    return text


def emulator() -> EmulatorDevice:
    return EmulatorDevice(CONFIG, counting=False)


@pytest.mark.parametrize(("name", "value"), ARGUMENTS, ids=lambda given: repr(given)[:30])
def test_what_runs_take_is_checked_wherever_it_is_given(tiny_model, name, value):
    """Before anything is compiled or loaded."""
    given = {name: value}
    places = [lambda: wrap(tiny_model, **given)]
    if name != "flow":
        places.append(lambda: Model(tiny_model, **({"device": emulator()} | given)))
    if name == "memory_mib":
        places.append(lambda: compile_program(tiny_model.graph, tiny_model.tables, CONFIG, 1, **given))
    if name in ("deadline_s", "device"):
        program = compile_program(tiny_model.graph, tiny_model.tables, CONFIG, 1)
        places.append(lambda: Session(program, tiny_model, **({"device": emulator()} | given)))
    if not (name == "device" and isinstance(value, str)):
        places.append(lambda: Job(CONFIG, **given))
    if name == "flow":
        model = Model(tiny_model, emulator())
        zeros = np.zeros((1, *tiny_model.graph.sample_shape))
        places += [lambda: model.generate(1, progress=False, **given), lambda: check_run(1, 1, **given)]
        places.append(lambda: model.denoise(np.arange(1), np.zeros(1, np.int64), 0, **given))
        places.append(lambda: model.session(1).run_step(zeros, 0, np.zeros(1, np.int64), value))
    for place in places:
        with pytest.raises(REFUSED) as error:
            place()
        in_one_line(error)


def test_numpys_numbers_are_numbers(tiny_model):
    model = Model(tiny_model, emulator(), np.float32(60), np.int64(512))
    assert type(model.deadline_s) is float and type(model.memory_mib) is int
    expected = model.generate(3, [0], 200, 2, progress=False).samples
    counted = model.generate(np.uint8(3), np.array([0]), np.uint8(200), np.uint8(2), progress=False)
    assert np.array_equal(counted.samples, expected)
    single = model.execute(np.float32(expected), np.int64(tiny_model.timesteps[1]), [0])
    assert np.array_equal(single, model.execute(np.float32(expected).astype(np.float64), tiny_model.timesteps[1], [0]))


@pytest.mark.parametrize("name", ["count", "seed", "batch"])
@pytest.mark.parametrize(
    "value", ["2", 2.0, True, np.float64(2), -1, None, [2], np.array([2, 2]), torch.tensor(2.0), 10**30]
)
def test_counts_and_seeds_are_integers(tiny_model, name, value):
    model = Model(tiny_model, emulator())
    if name == "batch" and isinstance(value, int) and value == 10**30:
        assert model.generate(1, progress=False, batch=value).samples.shape[0] == 1, "as many as there are"
        return
    places = [lambda: model.generate(**({"count": 1, "progress": False} | {name: value}))]
    if name == "seed":
        places.append(lambda: Request(labels=(1,), seed=value))
    if name == "batch":
        places.append(lambda: model.throughput_test(value))
    for place in places:
        with pytest.raises(REFUSED) as error:
            place()
        assert str(error.value).startswith("found") and "expected" in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        {"prompts": "red heart"},
        {"prompts": (1,)},
        {"prompts": None},
        {"labels": 3},
        {"labels": "12"},
        {"guidance": "4"},
    ],
    ids=str,
)
def test_requests_of_pipelines(given):
    with pytest.raises(REFUSED) as error:
        Request(**given)
    in_one_line(error)


@pytest.mark.parametrize("labels", ["12", ["1"], [1.0], [None], [{}], 5, {1, 2}, [np.float32(1)], [np.True_]])
def test_labels_that_are_no_integers(tiny_model, labels):
    with pytest.raises(ValueError, match=r"^found label.*, expected "):
        Model(tiny_model, emulator()).generate(1, labels, progress=False)


@pytest.mark.parametrize(
    "sample",
    [
        "x",
        None,
        3.0,
        [[1.0], [1.0, 2.0]],
        np.zeros((1, 3, 8, 8), bool),
        np.full((1, 3, 8, 8), "1"),
        np.zeros((1, 3, 1, 1)),
        np.zeros((3, 8, 8)),
        np.zeros((1, 3, 8, 8), object),
        torch.zeros(1, 3, 8, 8, device="meta"),
    ],
    ids=lambda value: repr(value)[:20].replace("\n", " "),
)
def test_samples_that_are_none(tiny_model, sample):
    """Of another shape too: codes would be broadcast."""
    model = Model(tiny_model, emulator())
    for place in (
        lambda: model.execute(sample, tiny_model.timesteps[0], [0]),
        lambda: model.session(1).run_step(sample, 0, np.zeros(1, np.int64), ORIGINAL),
    ):
        with pytest.raises(ValueError, match="sample") as error:
            place()
        in_one_line(error)


@pytest.mark.parametrize("timestep", ["x", None, float("nan"), [1, 2], np.array([1, 2]), 10**30, {}])
def test_timesteps_that_are_none(tiny_model, timestep):
    model = Model(tiny_model, emulator())
    with pytest.raises(ValueError, match="found timestep") as error:
        model.execute(np.zeros((1, 3, 8, 8)), timestep, [0])
    in_one_line(error)


def test_a_context_that_the_model_does_not_attend_to(tiny_model):
    model = Model(tiny_model, emulator())
    zeros, context = np.zeros((1, 3, 8, 8)), np.zeros((1, 4, 4))
    for place in (
        lambda: model.execute(zeros, tiny_model.timesteps[0], [0], context),
        lambda: model.session(1).run_step(zeros, 0, np.zeros(1, np.int64), ORIGINAL, context),
        lambda: model.denoise(np.arange(1), np.zeros(1, np.int64), 0, context=context),
    ):
        with pytest.raises(ValueError, match="found a context, but the model attends to none; leave it out"):
            place()


def test_batches_that_nothing_holds_are_refused_before_their_noise(tiny_model, monkeypatch):
    """And those that no memory holds."""
    drawn = []
    monkeypatch.setattr(agreement, "standard_normal", lambda *given: drawn.append(given))
    monkeypatch.setattr("ditto_zynq.host.runtime.model.standard_normal", lambda *given: drawn.append(given))
    model = Model(tiny_model, emulator())
    for batch, kind, message in (
        (1_000_000, ValueError, "found a batch of 1000000, expected at most 65,535"),
        (65_535, DoesNotFit, "a batch of 65535 needs .* use a batch of at most"),
    ):
        for place in (
            lambda: next(compare(model, model, 1, batch, 0)),  # noqa: B023
            lambda: model.generate(1_000_000, batch=batch, progress=False),  # noqa: B023
            lambda: model.denoise_as_calibrated(batch),  # noqa: B023
            lambda: model.throughput_test(batch),  # noqa: B023
        ):
            with pytest.raises(kind, match=message):
                place()
    assert not drawn


def test_a_model_that_is_none():
    for place in (lambda: Model("folder", emulator()), lambda: Model(None, emulator())):
        with pytest.raises(TypeError) as error:
            place()
        in_one_line(error)


def test_devices_and_what_runs_on_them_are_not_copied(tiny_model):
    """Copies would not know of each other's registers."""
    model = Model(tiny_model, emulator())
    for thing in (model, model.device, model.session(1)):
        for way in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="is not copied or pickled; load the model's folder again"):
                way(thing)


def test_the_checks_themselves():
    assert integer("n", np.int8(3)) == 3 and type(integer("n", np.int8(3))) is int and integer("n", 10**30) == 10**30
    assert number("x", 2) == 2.0 and number("x", np.float16(0.5)) == 0.5
    assert real_array("x", [[1, 2]], (None, 2)).dtype == np.float64
    for rows in (np.zeros((9, 9)), torch.zeros(9, 9), [np.zeros((9, 9))]):
        for way in (integer, number):
            with pytest.raises(TypeError) as error:
                way("x", rows)
            in_one_line(error)
    with pytest.raises(ValueError, match=r"found a x of shape \(1, 2\), expected \(any, 3\)"):
        real_array("x", [[1, 2]], (None, 3))
