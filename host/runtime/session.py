"""One program on a device: its memory, and the host's side of a step. Sessions of a process take turns on a device: each has
memory of its own, with its history and its table of Defo's, and owns the registers for a step.

The host streams one parameter block per step. There are two: while the accelerator runs a step, the host fills the other one
for the step that follows, so the accelerator waits for nothing but the scheduler's arithmetic between two steps.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from ...hls.artefact.model import QuantizedModel
from ...hls.common.schema import show
from ...hls.contract import references
from ...hls.contract.references import KINDS, Reference
from ...hls.machine.isa import (
    CONFIG_HASH,
    CONTROL,
    COUNTERS,
    DEFO_FIELDS,
    DESCRIPTOR_COUNT,
    ERROR,
    PROGRESS,
    START,
    Region,
    base_registers,
)
from ..common.arguments import check_deadline, integer, real_array
from ..common.errors import DeviceError, DeviceLost, DeviceTimeout
from ..devices.device import Buffer, Device, check_device
from ..program.compiler import Program

ORIGINAL, DIFFERENCE, SPATIAL = (
    kind.flow for kind in (references.ZERO, references.PREVIOUS_STEP, references.NEIGHBOUR)
)
DEFO, DEFO_PLUS = references.DEFO.flow, references.DEFO_PLUS.flow
FLOWS = tuple(kind.flow for kind in KINDS.values())
KEEPS_NOTHING = tuple(kind.flow for kind in KINDS.values() if not kind.keeps)
_BY_FLOW = {kind.flow: kind for kind in KINDS.values()}


def default_flow(device: Device) -> str:
    """DIFFERENCE, what the accelerator is for; ORIGINAL on an emulator that counts nothing: it takes no differences then, and
    keeping operands for them would only cost time and most of the memory. Values never depend on it."""
    return DIFFERENCE if device.counting else ORIGINAL


def check_flow(flow: str | None) -> None:
    """ValueError for an unknown execution flow; None stands for the default."""
    if flow is not None and flow not in FLOWS:
        raise ValueError(f"found execution flow {flow!r}, expected one of {', '.join(FLOWS)}")


def reference_of(flow: str, position: int) -> Reference:
    """What all linear operators are asked to refer to, ``position`` steps after a run began."""
    return _BY_FLOW[flow].asked_at(position)


@dataclass(frozen=True)
class _LastStep:
    """The last step of a session: what the kept operands and the constant tensors in its memory are of."""

    first: int  # step of the run
    step: int
    flow: str
    context: np.ndarray | None


@dataclass(frozen=True)
class _Request:
    """All that a parameter block depends on."""

    first: int
    step: int
    flow: str
    labels: bytes
    continues: bool


class _Block:
    """A parameter block in device memory: what it is for, and the checksum of what was written."""

    def __init__(self, buffer: Buffer):
        self.buffer = buffer
        self.request: _Request | None = None
        self.checksum = 0

    def fill(self, request: _Request, content: np.ndarray) -> None:
        self.request = None  # nobody may take it for the old one if the copy is interrupted
        self.buffer.data[: content.size] = content
        self.buffer.flush()
        self.request, self.checksum = request, zlib.crc32(content.data)

    def is_intact(self, size: int) -> bool:
        """Whether device memory still holds what was written."""
        self.buffer.invalidate()
        return zlib.crc32(self.buffer.data[:size].data) == self.checksum


class Session:
    """A program, loaded on a device. ``close`` gives its memory back; a step that fails does not."""

    def __init__(self, program: Program, artefact: QuantizedModel, device: Device, deadline_s: float = 600.0):
        check_device(device)
        self.program, self.artefact, self.device = program, artefact, device
        self.deadline_s = check_deadline(deadline_s)
        check_configuration(program, device)
        self.configuration = device.ownership.configurations  # of the device, that its memory is of
        self._last: _LastStep | None = None
        self.buffers: dict[Region, Buffer] = {}
        self._blocks: list[_Block] = []
        try:
            with device.ownership.lock:
                self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        program = self.program
        for region, size in program.sizes.items():
            self.buffers[region] = self.device.allocate(size)
        second = self.device.allocate(program.sizes[Region.PARAMETERS])
        self._blocks = [_Block(self.buffers[Region.PARAMETERS]), _Block(second)]
        self._write(Region.PROGRAM, program.descriptors.view(np.uint8))
        self._write(Region.WEIGHTS, program.weights)
        for name in program.graph.constants:
            self._put(name, self.artefact.tables[f"{name}.value"])
        self.buffers[Region.COUNTERS].data[:] = 0  # Defo's table: nothing is known yet
        self.buffers[Region.COUNTERS].flush()
        self._take()

    def _take(self) -> None:
        """Own the device: registers are this session's from here on."""
        ownership = self.device.ownership
        if ownership.runs:  # what another session began and did not see to its end
            self.device.stop()
            ownership.forget()
        if ownership.owner is not self:
            ownership.forget()
            for region, buffer in self.buffers.items():
                self._point(region, buffer)
            program, count = self.buffers[Region.PROGRAM].address, len(self.program.descriptors)
            self.device.write_register(DESCRIPTOR_COUNT, count)
            written = {DESCRIPTOR_COUNT: count, base_registers(Region.PROGRAM)[0]: program & 0xFFFFFFFF}
            ownership.owner, ownership.written = self, written

    def _point(self, region: Region, buffer: Buffer) -> None:
        for register in base_registers(region):
            self.device.write_register(register, buffer.address & 0xFFFFFFFF)
            self.device.write_register(register + 4, buffer.address >> 32)

    def run_step(
        self,
        sample: np.ndarray,
        step: int,
        labels: np.ndarray,
        flow: str,
        context: np.ndarray | None = None,
        begins: bool = False,
    ) -> np.ndarray:
        """One model evaluation: sample float64 [B, *sample_shape] -> output float64 [B, *shape of the output].

        ``labels`` int [B], rows of conditional tables; ``context`` float64 [B, tokens, channels], for a model that has one;
        ``begins`` whether a run begins with this step, as it always does with step 0. Else what a flow refers to must have
        run: ValueError for a step with history whose previous step was not the last one of this session, with the same
        context. DeviceTimeout where the accelerator does not finish. DeviceLost where it is not what it was, and DeviceError
        where it refused its program: seen in the first and the last step of a run, or in every one where the device shall
        ``check``.
        """
        with self.device.ownership.lock:
            return self._run_step(sample, step, labels, flow, context, begins)

    def _run_step(
        self, sample: np.ndarray, step: int, labels: np.ndarray, flow: str, context: np.ndarray | None, begins: bool
    ) -> np.ndarray:
        graph, batch = self.program.graph, self.program.batch
        sample = real_array("sample", sample, (batch, *graph.sample_shape))
        labels, context = self._check_asked(step, labels, flow), self._check_context(context)
        first, continues = self._check_history(step, flow, context, begins)
        ends = (step == first, step + 1 == graph.steps)  # of a run, where the device is seen to be what it was
        if ends[0] or self.device.check:
            self._check_device()
        self._take()
        group = graph.group_of_step[step]
        self._put(graph.input, graph.encode(sample, self.artefact.scales[graph.input][group]))
        if graph.context is not None and context is not None and not continues:
            self._put(graph.context, graph.encode_context(context, self.artefact.scales[graph.context][0]))
        block = self._block_for(_Request(first, step, flow, labels.tobytes(), continues), labels)
        self._point(Region.PARAMETERS, block.buffer)
        self.device.ownership.runs = True
        self.device.write_register(CONTROL, START)
        if step + 1 < graph.steps:
            other = self._blocks[block is self._blocks[0]]
            self._fill(other, _Request(first, step + 1, flow, labels.tobytes(), True), labels)
        self._wait(step)
        if any(ends) or self.device.check:
            self._check_result(step)
        if ends[1]:
            self._check_device()
        self._last = _LastStep(first, step, flow, None if context is None else context.copy())
        output = self._get(graph.output)
        return graph.decode(output, self.artefact.scales[graph.output][group])

    # ------------------------------------------------------------------------------------------------- parameter blocks

    def _block_for(self, request: _Request, labels: np.ndarray) -> _Block:
        """The block that was filled for this step while the last one ran, or one that is filled now. Its checksum is right."""
        block = next((each for each in self._blocks if each.request == request), self._blocks[0])
        size = self.program.parameters.size
        if block.request != request or not block.is_intact(size):
            self._fill(block, request, labels)
            if not block.is_intact(size):
                found = zlib.crc32(block.buffer.data[:size].data)
                raise DeviceError(
                    f"the parameter block of step {request.step} at {block.buffer.address:#x} was written twice and changed both "
                    f"times: found checksum {found:#010x}, expected {block.checksum:#010x}; something else writes to this "
                    "memory, or it is faulty: close other programs that use the board, or switch it off and on"
                )
        return block

    def _fill(self, block: _Block, request: _Request, labels: np.ndarray) -> None:
        graph = self.program.graph
        keeps = request.flow not in KEEPS_NOTHING and request.step + 1 < graph.steps
        reference = reference_of(request.flow, request.step - request.first)
        block.fill(request, self.program.parameters.block(request.step, labels, reference, keeps, request.continues))

    # ------------------------------------------------------------------------------------------------- checks

    def _check_asked(self, step: int, labels: np.ndarray, flow: str) -> np.ndarray:
        """The rows int64 [B]; ValueError for those, a step or a flow that the program does not have."""
        graph, batch = self.program.graph, self.program.batch
        check_flow(str(flow))  # None is a caller's default, not a step's
        if not 0 <= integer("step", step) < graph.steps:
            raise ValueError(f"found step {step}, expected 0 to {graph.steps - 1}")
        rows = np.asarray(labels)
        if rows.dtype.kind not in "iu" or rows.shape != (batch,) or rows.min() < 0 or rows.max() >= graph.labels:
            raise ValueError(f"found rows {show(labels)}, expected {batch} integers from 0 to {graph.labels - 1}")
        return rows.astype(np.int64, copy=False)

    def _check_context(self, context: np.ndarray | None) -> np.ndarray | None:
        """The context as float64. ValueError where the model needs one, has none, or has one of another shape."""
        expected = self.program.graph.context_shape
        if expected is None and context is not None:
            raise ValueError("found a context, but the model attends to none; leave it out")
        if expected is not None and context is None:
            raise ValueError(f"found no context, expected one of shape {(self.program.batch, *expected)}")
        return None if expected is None else real_array("context", context, (self.program.batch, *expected))

    def _check_history(self, step: int, flow: str, context: np.ndarray | None, begins: bool) -> tuple[int, bool]:
        """First step of the run, and whether this one continues that of the last one."""
        last, self._last = self._last, None  # a step that fails leaves no history
        continues = not begins and last is not None and last.step + 1 == step and same_arrays(last.context, context)
        needed = step > 0 and flow not in KEEPS_NOTHING and not begins
        if needed and not (continues and last is not None and last.flow == flow):
            found = "no step has run" if last is None else f"the last one was step {last.step} of flow {last.flow}"
            raise ValueError(
                f"step {step} of flow {flow} refers to step {step - 1}, but {found} (with the same context); run all "
                f"steps from 0 in order, or use flow {ORIGINAL}"
            )
        return (last.first if continues and last is not None else step), continues

    def _check_device(self) -> None:
        """DeviceLost where the accelerator's registers are not those that the last session wrote, or memory is gone."""
        name, ownership = self.device.name, self.device.ownership
        if ownership.configurations != self.configuration:
            raise DeviceLost(
                f"{name} was configured again since this session's program was loaded, and its memory is gone: another model "
                "on it found it switched off and on; run the same command again"
            )
        for register, expected in {CONFIG_HASH: self.program.config.register_hash, **ownership.written}.items():
            found = self.device.read_register(register)
            if found != expected:
                raise DeviceLost(
                    f"register {register:#x} of {name} holds {found:#010x}, expected {expected:#010x}: the board was switched "
                    "off and on, or another client of it, in another process, configured it or drives it now; run the same "
                    "command again, with nobody else on the board"
                )

    def _wait(self, step: int) -> None:
        try:
            self.device.wait(self.deadline_s)
        except DeviceTimeout as error:
            raise DeviceTimeout(self._diagnosis(step, error), error.registers) from error
        self.device.ownership.runs = False

    def _check_result(self, step: int) -> None:
        """DeviceError where the accelerator refused the program, in this step or in one before whose registers were not read."""
        refused = self.device.read_register(ERROR)
        if refused:
            raise DeviceError(
                f"step {step}: {self.device.name} refused descriptor {refused - 1} ({self._name(refused - 1)}); the program "
                "in its memory is damaged or for another version of the accelerator: rebuild the bitstream with "
                f"{rebuild_command(self.program)}"
            )

    def _diagnosis(self, step: int, error: DeviceTimeout) -> str:
        running = self.device.read_register(PROGRESS)
        written = np.array([self._result_bytes(index) for index in range(len(self.program.operations))])
        free = self.device.free_memory()
        registers = ", ".join(f"{name} {value:#x}" for name, value in error.registers.items())
        where = (
            f"descriptor {running - 1} of {len(written)} ({self._name(running - 1)})" if running else "no descriptor"
        )
        return (
            f"step {step}: {error}. It runs {where}; results of {int(written[: max(running - 1, 0)].sum()):,} of "
            f"{int(written.sum()):,} bytes are written. Registers: {registers}. Free contiguous memory: "
            f"{'unknown' if free is None else f'{free / 2**20:.0f} MiB'}. The accelerator is reset before anything else runs; "
            "run the same command again (finished images are kept), with a longer deadline if it only was slow"
        )

    def _name(self, index: int) -> str:
        operations = self.program.operations
        return operations[index].name if index < len(operations) else "beyond the program"

    def _result_bytes(self, index: int) -> int:
        operation = self.program.operations[index]
        tensor = self.program.graph.tensors[operation.name]
        return operation.samples * tensor.size * tensor.dtype.itemsize

    # ------------------------------------------------------------------------------------------------- memory

    def counters(self) -> np.ndarray:
        """Counter records of the last step, one per descriptor (a copy). Followers show their leader's entry of Defo's table."""
        self.buffers[Region.COUNTERS].invalidate()
        count = len(self.program.operations)
        records = self.buffers[Region.COUNTERS].data[: count * COUNTERS.itemsize].view(COUNTERS).copy()
        for field in DEFO_FIELDS:
            records[field.name] = records[field.name][self.program.leaders]
        return records

    def codes(self, name: str) -> np.ndarray:
        """A copy of a tensor that is in memory after the step, [B, H, W, C]; others may have overwritten it."""
        return self._get(name).copy()

    def _put(self, name: str, codes: np.ndarray) -> None:
        self.tensor(name)[...] = codes
        self.buffers[Region.ACTIVATIONS].flush(*self._extent(name))

    def _get(self, name: str) -> np.ndarray:
        self.buffers[Region.ACTIVATIONS].invalidate(*self._extent(name))
        return self.tensor(name)

    def _extent(self, name: str) -> tuple[int, int]:
        """The first byte of a tensor in ACTIVATIONS, and the last one + 1."""
        tensor, placement = self.program.graph.tensors[name], self.program.placements[name]
        height, width, channels = tensor.shape
        unused = placement.pitch - channels
        elements = self.program.batch * height * width * placement.pitch - unused
        return placement.offset, placement.offset + elements * tensor.dtype.itemsize

    def tensor(self, name: str) -> np.ndarray:
        """A view of a tensor in ACTIVATIONS, [B, H, W, C]; only what nothing has overwritten yet is there."""
        tensor, placement = self.program.graph.tensors[name], self.program.placements[name]
        height, width, channels = tensor.shape
        item, pitch = tensor.dtype.itemsize, placement.pitch
        memory = self.buffers[Region.ACTIVATIONS].data[placement.offset :]
        strides = (height * width * pitch * item, width * pitch * item, pitch * item, item)
        shape = (self.program.batch, height, width, channels)
        return np.ndarray(shape, tensor.dtype, memory, 0, strides)

    def _write(self, region: Region, data: np.ndarray) -> None:
        self.buffers[region].data[: data.size] = data
        self.buffers[region].flush()

    def close(self) -> None:
        """Give all memory back, once the accelerator is idle. Other sessions keep theirs."""
        buffers = [*self.buffers.values(), *(block.buffer for block in self._blocks[1:])]
        self.buffers, self._blocks = {}, []
        ownership = self.device.ownership
        with ownership.lock:
            if buffers and (ownership.owner in (self, None) or ownership.runs):
                self.device.stop()
                ownership.forget()
            for buffer in buffers:
                buffer.free()


def check_configuration(program: Program, device: Device) -> None:
    """DeviceError where the accelerator is not of the program's configuration."""
    found, expected = device.read_register(CONFIG_HASH), program.config.register_hash
    if found != expected:
        raise DeviceError(
            f"{device.name} has configuration {found:#010x}, the program is for {expected:#010x}; build and load the "
            f"bitstream of this configuration with {rebuild_command(program)}, or compile for the device's configuration"
        )


def rebuild_command(program: Program) -> str:
    """The command that builds the bitstream of a program's configuration."""
    return f"'ditto-zynq build --board {program.config.board} -o build --publish bitstreams'"


def same_arrays(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether both are None, or arrays with the same values."""
    return one is other or (one is not None and other is not None and np.array_equal(one, other))
