"""A simulated accelerator while it runs: what was checked is what runs, in the memory that it had, until it is reset."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from ditto_zynq.hls.machine.isa import DESCRIPTOR_COUNT, ERROR, PROGRESS, Region
from ditto_zynq.host.devices.emulator import EmulatorDevice

from tests.host.devices.hostile import CONFIG, Victim, device_of

LARGEST = (1 << 32) - 1


def test_what_was_checked_runs():
    """Whatever a client writes to program, parameters and registers, or frees, while a step runs: the step is not changed."""
    device = EmulatorDevice(CONFIG, differences=True)
    expected = Victim(device, 3)
    expected.restore(np.random.default_rng(0))
    assert expected.run() == 0
    victim = Victim(device, 3)

    def attack(index: int) -> None:
        victim.descriptors[:] = np.zeros_like(victim.descriptors)
        victim.descriptors["sample_stride"] = LARGEST
        victim.scalars["shift"] = -1
        victim.session.buffers[Region.PROGRAM].flush()
        victim.device.registers[DESCRIPTOR_COUNT] = LARGEST
        if index == 2:
            victim.freed = victim.session.buffers[Region.ACTIVATIONS].storage
            victim.session.buffers[Region.ACTIVATIONS].free()

    victim.restore(np.random.default_rng(0))
    device.auditor = attack
    device.start()
    assert device.registers[ERROR] == 0
    found = victim.freed[: victim.memory[Region.ACTIVATIONS].size]
    assert np.array_equal(found, expected.session.buffers[Region.ACTIVATIONS].data)


@pytest.mark.parametrize("kind", ["emulator", "csim"])
def test_a_reset_ends_a_run_at_its_next_descriptor(kind, csim_cache):
    """On both: the one that ran is the last."""
    device = device_of(kind, csim_cache)
    victim = Victim(device, 3)
    victim.restore(np.random.default_rng(0))
    begin, before = device._begin, victim.memory[Region.ACTIVATIONS]

    def reset(count, registers):
        run = begin(count, registers)
        device.reset()
        return run

    device._begin = reset
    device.start()
    assert np.array_equal(victim.session.buffers[Region.ACTIVATIONS].data, before)


def test_what_goes_on_after_a_reset_keeps_to_the_memory_it_had():
    """The next run computes in a copy, also where nothing was flushed between them."""
    device = EmulatorDevice(CONFIG)
    victim, alone = Victim(device, 3), Victim(EmulatorDevice(CONFIG), 3)
    entered, leave = threading.Event(), threading.Event()

    def wait(index: int, operands: object) -> None:
        entered.set()
        assert leave.wait(600)

    for each in (victim, alone):
        each.restore(np.random.default_rng(0))
    device.observer = wait
    abandoned = threading.Thread(target=device.start)
    abandoned.start()
    assert entered.wait(600)
    device.observer = None
    device.reset()
    device.leave_running()
    victim.restore(np.random.default_rng(0))
    assert victim.run() == alone.run() == 0
    regions = (Region.ACTIVATIONS, Region.STATE, Region.COUNTERS)
    expected = {region: victim.session.buffers[region].data.copy() for region in regions}
    for region in regions:
        victim.session.buffers[region].data[:] = 0x77
    leave.set()
    abandoned.join()
    for region in regions:
        assert np.array_equal(expected[region], alone.session.buffers[region].data), region.name
        assert (victim.session.buffers[region].data == 0x77).all(), region.name


def test_memory_of_programs_goes_with_their_buffers():
    device = EmulatorDevice(CONFIG)
    victim = Victim(device, 3)
    victim.restore(np.random.default_rng(0))
    assert victim.run() == 0
    storage = weakref.ref(victim.session.buffers[Region.WEIGHTS].storage)
    victim.session.close()
    del victim
    gc.collect()
    assert storage() is None


def test_a_reset_ends_a_run():
    """What was reset goes on with nothing, and no longer writes the registers that the next run has."""
    device = EmulatorDevice(CONFIG)
    victim, ran = Victim(device, 3), []

    def reset(index: int) -> None:
        ran.append(index)
        device.reset()

    victim.restore(np.random.default_rng(0))
    device.auditor = reset
    device.start()
    assert len(ran) == 1 and PROGRESS not in device.registers


def test_a_freed_buffer(csim_cache):
    for kind in ("emulator", "csim"):
        victim = Victim(device_of(kind, csim_cache), 3)
        victim.session.buffers[Region.STATE].free()
        victim.device.start()
        assert victim.device.registers[ERROR] == 1
