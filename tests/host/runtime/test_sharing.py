"""Several models on one device, in turn and in threads: each computes as if it were alone, with its own weights and history."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from ditto_zynq.hls.artefact.model import QuantizedModel
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import COUNTER_NAMES, DESCRIPTOR_COUNT, Region, base_registers
from ditto_zynq.host.common.errors import DeviceLost
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.device import Device
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.devices.opening import put_behind_pynq
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.session import DEFO, DIFFERENCE, Session

CONFIG = default_config("zcu104")
KINDS = ["emulator", "csim", "pynq-emulator", "pynq-csim"]


def fine_tuned(model: QuantizedModel) -> QuantizedModel:
    """The same architecture with other weights."""
    changed = {name: -table for name, table in model.tables.items() if name.endswith(".weight")}
    return dataclasses.replace(model, tables={**model.tables, **changed})


def in_one_group(model: QuantizedModel) -> QuantizedModel:
    """The same weights with the tables of the first step group throughout."""
    groups = model.graph.groups
    graph = dataclasses.replace(model.graph, group_of_step=(0,) * model.graph.steps)
    tables = {
        name: table[:1] if len(table) == groups and not name.endswith(".weight") else table
        for name, table in model.tables.items()
    }
    return dataclasses.replace(model, graph=graph, tables=tables, scales={n: s[:1] for n, s in model.scales.items()})


def other_architecture(_: QuantizedModel) -> QuantizedModel:
    build, graph = random_unet(3)
    scales = {name: np.full(graph.groups, 2.0**-5) for name in graph.tensors}
    return QuantizedModel(graph, build.tables, scales, {}, {}, {})


def itself(model: QuantizedModel) -> QuantizedModel:
    return model


PARTNERS = [fine_tuned, in_one_group, other_architecture, itself]


@pytest.fixture
def device(request, csim_cache) -> Iterator[Device]:
    fabric = (
        CSimDevice(CONFIG, cache=csim_cache)
        if request.param.endswith("csim")
        else EmulatorDevice(CONFIG, differences=True)
    )
    device = put_behind_pynq(fabric) if request.param.startswith("pynq") else fabric
    yield device
    device.close()


def session_on(device: Device, model: QuantizedModel, batch: int = 1) -> Session:
    return Session(compile_program(model.graph, model.tables, CONFIG, batch), model, device)


def steps_of(session: Session, seed: int, flow: str, steps: int = 4) -> Iterator[np.ndarray]:
    """What a run's steps compute, one by one: a sample that changes a little, and everything that is kept."""
    graph, random = session.program.graph, np.random.default_rng(seed)
    sample = random.normal(0, 1, (session.program.batch, *graph.sample_shape))
    labels = random.integers(0, graph.labels, session.program.batch)
    context = None
    if graph.context_shape is not None:
        context = random.normal(0, 1, (session.program.batch, *graph.context_shape))
    for step in range(min(steps, graph.steps)):
        yield session.run_step(sample, step, labels, flow, context)
        sample = sample + random.normal(0, 0.1, sample.shape)


Partner = Callable[[QuantizedModel], QuantizedModel]


@pytest.fixture(scope="module")
def alone(tiny_model) -> Callable[[Partner, int, str], list[np.ndarray]]:
    """What a partner's run computes on a device of its own."""

    @functools.cache
    def run(partner: Partner, seed: int, flow: str) -> list[np.ndarray]:
        session = session_on(EmulatorDevice(CONFIG, differences=True), partner(tiny_model))
        return list(steps_of(session, seed, flow))

    return run


@pytest.mark.parametrize("partner", PARTNERS)
@pytest.mark.parametrize("device", KINDS, indirect=True)
def test_steps_of_two_models_in_turn(device, tiny_model, partner, alone):
    models = [tiny_model, partner(tiny_model)]
    for flow in (DIFFERENCE, DEFO):
        expected = [alone(itself, 0, flow), alone(partner, 1, flow)]
        sessions = [session_on(device, model) for model in models]
        runs = [steps_of(session, seed, flow) for seed, session in enumerate(sessions)]
        for step, outputs in enumerate(zip(*runs, strict=True)):
            for index, output in enumerate(outputs):
                assert np.array_equal(output, expected[index][step]), f"{flow}, step {step}, model {index}"
        for session in sessions:
            session.close()


@pytest.mark.parametrize("device", ["emulator", "pynq-emulator"], indirect=True)
def test_whole_runs_in_turn_and_in_threads(device, tiny_model):
    kinds = [tiny_model, fine_tuned(tiny_model), in_one_group(tiny_model), tiny_model]
    expected = [Model(each, EmulatorDevice(CONFIG)).generate(1, seed=3, progress=False) for each in kinds]
    models = [Model(each, device) for each in kinds]
    for model, wanted in zip(models, expected, strict=True):
        found = model.generate(1, seed=3, progress=False)
        assert np.array_equal(found.samples, wanted.samples)
        for name in COUNTER_NAMES:
            assert np.array_equal(found.record.counters[name], wanted.record.counters[name]), name
    found = {}

    def run(index: int) -> None:
        found[index] = models[index].generate(1, seed=3, progress=False)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, wanted in enumerate(expected):
        assert np.array_equal(found[index].samples, wanted.samples), index


def test_wrapped_pipelines_on_one_device(tiny_unet, tiny_model):
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler
    from ditto_zynq.host.diffusers.drop_in import wrap

    scheduler = DDIMScheduler.from_config(tiny_model.scheduler)

    def pipeline(model: QuantizedModel, device: Device) -> DDIMPipeline:
        return DDIMPipeline(wrap(model, device), scheduler)

    def denoise(pipe: DDIMPipeline) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        pipe.scheduler.set_timesteps(tiny_model.graph.steps)
        sample = torch.randn((1, 3, 8, 8), generator=generator)
        for timestep in pipe.scheduler.timesteps:
            predicted = pipe.unet(sample, timestep, class_labels=torch.tensor([1])).sample
            sample = pipe.scheduler.step(predicted, timestep, sample).prev_sample
            yield sample

    models = [tiny_model, fine_tuned(tiny_model)]
    alone = [list(denoise(pipeline(model, EmulatorDevice(CONFIG, differences=True))))[-1] for model in models]
    shared = EmulatorDevice(CONFIG, differences=True)
    *_, last = zip(*(denoise(pipeline(model, shared)) for model in models), strict=True)
    assert all(torch.equal(found, wanted) for found, wanted in zip(last, alone, strict=True))


def test_a_closed_session_leaves_the_others_theirs(tiny_model):
    """The accelerator is not stopped, nor memory freed, under a session by another one that ends."""
    device = EmulatorDevice(CONFIG, differences=True)
    expected = list(steps_of(session_on(EmulatorDevice(CONFIG), tiny_model), 0, DIFFERENCE))
    kept, found = session_on(device, tiny_model), []
    for output in steps_of(kept, 0, DIFFERENCE):
        found.append(output)
        other = session_on(device, fine_tuned(tiny_model))
        next(steps_of(other, 1, DIFFERENCE))
        other.close()
    assert np.array_equal(found, expected)


def test_a_reconfigured_device_is_lost_to_all_its_sessions_and_found_by_their_models(tiny_model):
    device = EmulatorDevice(CONFIG)
    session = session_on(device, tiny_model)
    models = [Model(tiny_model, device), Model(fine_tuned(tiny_model), device)]
    before = [model.generate(1, seed=4, progress=False).samples for model in models]
    device.reset()  # as when it is switched off and on
    for model, samples in zip(models, before, strict=True):
        assert np.array_equal(model.generate(1, seed=4, progress=False).samples, samples)
    assert device.ownership.configurations == 1, "the first model configured it for both"
    with pytest.raises(
        DeviceLost, match=r"configured again since this session's program was loaded.*another model on it"
    ):
        next(steps_of(session, 0, DIFFERENCE))


@pytest.mark.parametrize("register", [DESCRIPTOR_COUNT, base_registers(Region.PROGRAM)[0]])
def test_another_clients_registers_are_named(tiny_model, register):
    """Of another process, which no session here knows: even with as many descriptors."""
    device = EmulatorDevice(CONFIG)
    session = session_on(device, tiny_model)
    run = steps_of(session, 0, DIFFERENCE)
    next(run)
    device.write_register(register, device.read_register(register) ^ 0x1000)
    with pytest.raises(DeviceLost, match=r"register 0x.* holds .*another client of it.*nobody else on the board"):
        next(run)
