"""Several boards, or several processes: Dask workers.

A worker holds one device; a board is the worker resource ``board``. Work is cut into batches whose samples depend on nothing
but seed and index, so results are the same whatever the workers are, and what a lost worker had is done by another one.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster, as_completed, get_worker
from distributed.comm import parse_address, parse_host_port

from ...hls.artefact.model import load as load_artefact
from ...hls.machine.config import HardwareConfig
from ..common.arguments import check_deadline, check_memory
from ..common.errors import DeviceError
from ..devices.opening import KINDS, open_device
from .images import Batch, Images
from .labels import labels_of
from .model import BUNDLED_MODEL, Model, check_run
from .schedulers import check_seed
from .session import check_flow

BOARD = "board"  # the worker resource: one batch at a time on each
CONNECT_S = 60.0  # for a scheduler that is there, on a machine that is busy
RETRIES = 3  # of a batch that failed; what a lost worker had runs again in any case


@dataclass(frozen=True)
class Job:
    """What all batches of a run share. ``model``: its folder, which all workers can read; ``device``: see
    :mod:`..devices.opening`."""

    config: HardwareConfig
    model: Path = BUNDLED_MODEL
    device: str = "auto"
    seed: int = 0
    flow: str | None = None  # see :func:`.session.default_flow`
    counting: bool = False
    backend: str | None = None
    bitstreams: Path | None = None
    deadline_s: float = 600.0
    memory_mib: int | None = None  # of contiguous memory (default: PYNQ's)
    check: bool = False

    def __post_init__(self) -> None:
        """TypeError or ValueError for what no worker could run."""
        if not isinstance(self.device, str):
            raise TypeError(f"found device {self.device!r}, expected a name for the workers to open: {KINDS}")
        check_seed(self.seed)
        check_flow(self.flow)
        check_deadline(self.deadline_s)
        check_memory(self.memory_mib)


@contextlib.contextmanager
def cluster_of(workers: int) -> Iterator[str]:
    """A context with ``workers`` processes on this machine, each with a device of its own: the address of their scheduler."""
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, resources={BOARD: 1}
    ) as cluster:
        yield cluster.scheduler_address


@contextlib.contextmanager
def connection(address: str) -> Iterator[str]:
    """A context with the address of a scheduler that runs already, whose workers were started with ``--resources "board=1"``.
    ValueError for what is no address, DeviceError where no scheduler answers, or has no such worker."""
    if not re.fullmatch(r"(\w+://)?[^/]+:\d+", address):
        raise ValueError(
            f"found cluster {address!r}, expected the address of a Dask scheduler, such as tcp://HOST:8786"
        )
    try:
        scheme, location = parse_address(address)
        if scheme in ("tcp", "tls"):  # the client would try again for a minute where the connection is refused
            socket.create_connection(parse_host_port(location), CONNECT_S).close()
        with Client(address, timeout=CONNECT_S) as client:
            workers = client.scheduler_info()["workers"]
    except (OSError, TimeoutError, ValueError) as error:
        raise DeviceError(
            f"no Dask scheduler answers at {address} ({error}); start one with: dask scheduler"
        ) from error
    if not any(worker["resources"].get(BOARD) for worker in workers.values()):
        raise DeviceError(
            f"found {len(workers)} workers at {address}, none with a board; start one beside each with: dask worker {address} "
            f'--nthreads 1 --resources "{BOARD}=1"'
        )
    yield address


def batches(
    client: Client, job: Job, labels: np.ndarray, batch: int, starts: Iterable[int] | None = None
) -> Iterator[Batch]:
    """Batches of ``batch`` samples with ``labels``, as they get ready; ``starts``: only those that begin with these samples.

    What a worker raises is raised; distributed's KilledWorker where the workers of one batch were lost again and again.
    """
    check_run(len(labels), batch, job.flow)
    tasks = [
        client.submit(
            _denoise, job, start, labels[start : start + batch], pure=False, retries=RETRIES, resources={BOARD: 1}
        )
        for start in (range(0, len(labels), batch) if starts is None else starts)
    ]
    try:
        for task in as_completed(tasks):
            yield task.result()
    finally:
        client.cancel(tasks)


def generate(client: Client, job: Job, count: int, labels: Sequence[int] | None = None, batch: int = 16) -> Images:
    """Generate ``count`` images by the workers of ``client``; they are those that :meth:`.model.Model.generate` makes."""
    chosen = labels_of(load_artefact(job.model), count, labels)
    return Images.of(batches(client, job, chosen, batch), chosen)


def shares(
    client: Client, function: Callable[..., Any], task: Any, common: Any, parts: Sequence[range]
) -> Iterator[tuple[range, Any]]:
    """Every part, with ``function(task, common, part)`` of it, as they get ready."""
    [scattered] = client.scatter([common], broadcast=True)
    futures = {
        client.submit(function, task, scattered, part, pure=False, retries=RETRIES, resources={BOARD: 1}): part
        for part in parts
    }
    try:
        for future in as_completed(list(futures)):
            yield futures[future], future.result()
    finally:
        client.cancel(list(futures))


def _denoise(job: Job, start: int, labels: np.ndarray) -> Batch:
    indices = np.arange(start, start + len(labels))
    return _model_of(job).denoise(indices, labels, job.seed, job.flow)


def _model_of(job: Job) -> Model:
    """This worker's model on its device; kept from batch to batch."""
    worker = get_worker()
    kept: dict[Job, Model] = worker.__dict__.setdefault("ditto_models", {})
    if job not in kept:
        for model in kept.values():
            model.close()
        kept.clear()
        device = open_device(job.device, job.config, job.counting, job.backend, job.bitstreams, check=job.check)
        kept[job] = Model(load_artefact(job.model), device, job.deadline_s, job.memory_mib)
    return kept[job]
