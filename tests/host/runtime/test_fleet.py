"""Over Dask workers: results do not depend on how many there are, and a lost worker loses nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from ditto_zynq.hls.artefact.model import load
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.common.errors import DeviceError
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.runtime.fleet import BOARD, Job, cluster_of, connection, generate
from ditto_zynq.host.runtime.images import Images
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.output import Run
from ditto_zynq.host.studies.compare import compare
from ditto_zynq.host.studies.explore import explore

distributed = pytest.importorskip("distributed")
CONFIG = default_config("zcu104")


@pytest.fixture(scope="module")
def client():
    with cluster_of(2) as address, distributed.Client(address) as client:
        yield client


@pytest.fixture
def expected(tiny_model) -> Images:
    return Model(tiny_model, EmulatorDevice(CONFIG)).generate(7, None, 5, 2, progress=False)


@pytest.mark.parametrize("device", ["emulator", "pynq-emulator"])
def test_the_same_images_and_counters(client, tiny_folder, expected, device):
    job = Job(CONFIG, tiny_folder, device, seed=5, counting=True)
    for batch in (2, 3):
        found = generate(client, job, 7, batch=batch)
        assert np.array_equal(found.samples, expected.samples) and np.array_equal(found.labels, expected.labels)
    assert np.array_equal(generate(client, job, 7, batch=2).record.counters, expected.record.counters)


def test_a_board_has_one_batch_at_a_time(client, tiny_folder):
    resources = [worker["resources"] for worker in client.scheduler_info()["workers"].values()]
    assert resources == [{BOARD: 1.0}] * 2


def threads_of_an_emulator() -> int:
    return EmulatorDevice(CONFIG)._team.threads


def test_emulators_of_a_worker_have_its_threads(client, monkeypatch):
    """Whoever makes them: the other cores are other workers'."""
    assert client.submit(threads_of_an_emulator, pure=False).result() == 1
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 3)
    assert threads_of_an_emulator() == 3


def die_once(marker: Path) -> None:
    """Ends its worker's process the first time, as a board that is switched off does."""
    if not marker.exists():
        marker.touch()
        os._exit(1)


def test_a_lost_worker_loses_nothing(client, tiny_folder, expected, tmp_path):
    job = Job(CONFIG, tiny_folder, "emulator", seed=5)
    generate(client, job, 1)
    workers = set(client.scheduler_info()["workers"])
    killer = client.submit(die_once, tmp_path / "died", pure=False, retries=3)
    found = generate(client, job, 7, batch=1)
    killer.result()
    assert np.array_equal(found.samples, expected.samples)
    client.wait_for_workers(2)
    assert set(client.scheduler_info()["workers"]) != workers, "a worker was lost"


def test_what_workers_refuse_is_raised(client, tiny_folder):
    with pytest.raises(ValueError, match="found device 'abacus'"):
        generate(client, Job(CONFIG, tiny_folder, "abacus"), 1)
    with pytest.raises(ValueError, match="found execution flow 'both'"):
        generate(client, Job(CONFIG, tiny_folder, flow="both"), 1)


def test_workers_have_the_memory_that_was_asked_for(client, tiny_folder, tmp_path):
    arguments = ["generate", str(tiny_folder), "-o", str(tmp_path / "x.png"), "-n", "64", "--batch", "64", "--quiet"]
    for more in ([], ["--cluster", client.scheduler.address]):
        result = CliRunner().invoke(main, [*arguments, "--memory", "1", *more])
        assert result.exit_code == 1 and "use a batch of at most" in result.stderr, result.output


def test_exploration(client, tiny_folder, tiny_model):
    configs = [CONFIG, replace(CONFIG, cores=4), replace(CONFIG, dram_gb_per_s=2.0)]
    assert explore(client, configs, 2, tiny_folder) == [compare(tiny_model, config, 2) for config in configs]


def test_a_scheduler_without_boards():
    missing = pytest.raises(DeviceError, match=r'found 1 workers at .*, none with a board; .*--resources "board=1"')
    with (
        distributed.LocalCluster(n_workers=1, processes=False, protocol="tcp://", dashboard_address=None) as cluster,
        missing,
    ):
        connection(cluster.scheduler_address).__enter__()


def test_the_command_resumes(client, tiny_folder, tiny_model, tmp_path, expected):
    """Batches that an earlier run kept are not made again; the images are the same as without workers."""
    output = tmp_path / "images.npz"
    labels = np.resize(np.arange(3), 7)
    arguments = ["generate", str(tiny_folder), "-o", str(output), "-n", "7", "--seed", "5", "--batch", "2", "--quiet"]
    model = Model(tiny_model, EmulatorDevice(CONFIG, counting=False))

    def two_batches(starts):
        yield from model.batches(7, labels, 5, 2, "difference", False, starts[1:3])
        raise KeyboardInterrupt

    earlier = Run(output, load(tiny_folder).digest, 5, labels, 2)
    with pytest.raises(KeyboardInterrupt):
        earlier.collect(two_batches)
    assert earlier.done == 4
    result = CliRunner().invoke(main, [*arguments, "--cluster", client.scheduler.address])
    assert result.exit_code == 0, result.output
    assert "workers: 2" in result.stderr and not earlier.folder.exists()
    assert np.array_equal(np.load(output)["samples"], expected.samples)
