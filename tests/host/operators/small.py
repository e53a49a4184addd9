"""Small programs for tests of single operators: what the descriptors, scalars and counters of an operation say."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.contract.references import Reference
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.hls.machine.forms import Form, decode
from ditto_zynq.hls.machine.isa import SCALARS, Opcode
from ditto_zynq.host.counting.product_cycles import Counts
from ditto_zynq.host.operators import BY_OPCODE
from ditto_zynq.host.program.compiler import lay_out
from ditto_zynq.host.program.operations import Operation
from ditto_zynq.host.studies.spot_check import SpotCheck

CONFIG = HardwareConfig()  # beats of 16 bytes, vectors of 8 values, 8 lanes, tiles of 32 output channels


class Small:
    """The graph of a builder that ends with ``output``, laid out for ``batch`` samples."""

    def __init__(self, build: GraphBuilder, output: str, batch: int = 1, config: HardwareConfig = CONFIG):
        self.build, self.batch = build, batch
        self.graph = build.graph(output)
        self.program = lay_out(self.graph, build.tables, config, batch)

    def operation(self, name: str) -> Operation:
        """That which runs the node of this name for the first samples."""
        return self.program.operation_of(name)

    def form(self, name: str) -> Form:
        return decode(self.program.descriptors[self.operation(name).index])

    def scalars(self, name: str, step: int = 0, reference: Reference = Reference.ZERO, keeps: bool = False) -> np.void:
        """Its record in the parameter block of a step."""
        block = self.program.parameters.block(step, np.zeros(self.batch, np.int64), reference, keeps)
        records = block[: len(self.program.operations) * SCALARS.itemsize].view(SCALARS)
        return records[self.operation(name).index]

    def counts(self, name: str) -> Counts:
        """The counters of an operation of the vector unit."""
        form = self.form(name)
        return BY_OPCODE[Opcode(form.opcode)].counts(self.program.config, form)

    def check_samples(self, name: str, spoiled: tuple[int, ...] | None = None, samples: int = 100) -> None:
        """Spot checks of an operation after a step by the contract, whose result is another number at ``spoiled``."""
        labels = np.zeros(self.batch, np.int64)
        tensors = Interpreter(self.graph, self.build.tables).step(self.build.codes(self.batch), 0, labels)
        if spoiled is not None:
            tensors[name] = tensors[name].copy()
            tensors[name][spoiled] ^= 1
        check = SpotCheck(self.program, self.build.tables, 0, labels, samples)
        check(self.operation(name), tensors.__getitem__)


def value_of(build: GraphBuilder, shape: tuple[int, int, int]) -> str:
    """A value that is computed from the sample, which is made where there is none."""
    source = "sample" if "sample" in build.tensors else build.input((*shape[:2], 3))
    return build.convolution(source, shape[2])
