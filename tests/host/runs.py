"""Random graphs that run on a device and on the reference, step by step."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.artefact.model import QuantizedModel
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.contract.tensor import CODE, VALUE
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.runtime.session import DEFO, DEFO_PLUS, DIFFERENCE, Session, reference_of

CONFIG = default_config("zcu104")
REFERENCE_FLOW = {DEFO: DIFFERENCE, DEFO_PLUS: DIFFERENCE}  # the reference has no cycles to decide by


def session_of(build: GraphBuilder, graph, batch: int, device: EmulatorDevice) -> Session:
    ones = {name: np.ones(graph.groups) for name in graph.tensors}
    artefact = QuantizedModel(graph, build.tables, ones, {}, {}, {})
    return Session(compile_program(graph, build.tables, device.config, batch), artefact, device)


def run_both(build: GraphBuilder, graph, device: EmulatorDevice, flow: str, batch: int = 2):
    """Steps of the same run on both; yields (session, reference tensors) after each."""
    session = session_of(build, graph, batch, device)
    reference = Interpreter(graph, build.tables)
    codes = build.codes(batch)
    labels = build.random.integers(0, graph.labels, batch)
    context = build.codes(batch, graph.context) if graph.context else None
    given = None if context is None else graph.decode_context(context, 1.0)
    for step in range(graph.steps):
        session.run_step(codes.transpose(0, 3, 1, 2).astype(np.float64), step, labels, flow, given)
        references = reference_of(REFERENCE_FLOW.get(flow, flow), step)
        yield session, reference.step(codes, step, labels, references, context)
        codes = build.next_codes(codes)


def assert_equal_everywhere(session: Session, expected: dict[str, np.ndarray]) -> None:
    for operation in session.program.operations:
        shape = session.program.graph.tensors[operation.name].shape
        found = session.codes(operation.name)
        wanted = expected[operation.name].reshape(len(found), *shape)
        assert np.array_equal(found, wanted), f"{operation.name} ({type(operation.first).__name__}) differs"


def random_upsampling(seed: int):
    """Codes or values, by factors from 1 on, to sizes that the last copies do not fill; alone or as a part of a concatenation."""
    build = GraphBuilder(seed)
    random = build.random
    source = build.input((*(int(size) for size in random.integers(1, 4, 2)), int(random.integers(1, 40))))
    kind = CODE if random.random() < 0.5 else VALUE
    small = build.convolution(source, int(random.integers(1, 40)), kind=kind)
    factor = int(random.integers(1, 5))
    crop = tuple(int(left_out) for left_out in random.integers(0, factor, 2))
    large = build.upsample(small, factor, crop)
    if kind == CODE:
        return build, build.graph(build.convolution(large, 3))
    twice = build.concat(large, build.upsample(large, 1)) if random.random() < 0.5 else large
    return build, build.graph(build.add(twice, twice))
