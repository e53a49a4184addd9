"""Threads that share the work on one layer. They sleep while they wait; those of OpenMP spin, and take a core for nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ...hls.contract.arithmetic import ceil_divide

ACCELERATED = importlib.util.find_spec("numba") is not None  # whether there are compiled loops
SMALLEST_ELEMENTS = 1 << 15  # of a thread's part of the vector unit's work: what takes as long as waking the thread


def default_threads() -> int:
    """The cores that this process may use, or as many threads as numba was told to have; in a task of a Dask worker as many as
    that has, for the other cores are other workers'. 1 without numba: BLAS has threads of its own."""
    if not ACCELERATED:
        return 1
    if "distributed" in sys.modules:
        with contextlib.suppress(ValueError):  # no worker's thread
            return int(sys.modules["distributed"].get_worker().state.nthreads)
    from numba import config

    return int(config.NUMBA_NUM_THREADS)


class Team:
    """``threads`` threads, the caller's included, that share work which releases the GIL. ValueError for less than one."""

    def __init__(self, threads: int):
        if threads < 1:
            raise ValueError(f"found {threads} threads, expected 1 or more")
        self.threads = threads
        self._others = ThreadPoolExecutor(threads - 1) if threads > 1 else None  # starts no thread before there is work

    def share(self, count: int, smallest: int, work: Callable[[int, int], object]) -> None:
        """Run ``work(first, last)`` on consecutive ranges that cover ``range(count)``, none below ``smallest`` unless it is all.

        Returns when all have ended; raises what one of them raised.
        """
        parts = min(self.threads, max(1, count // max(smallest, 1)))
        if self._others is None or parts == 1:
            work(0, count)
            return
        bounds = [count * part // parts for part in range(parts + 1)]
        others = [self._others.submit(work, bounds[part], bounds[part + 1]) for part in range(1, parts)]
        try:
            work(0, bounds[1])
        finally:  # they write into the caller's arrays
            errors = [other.exception() for other in others]
        for error in errors:
            if error is not None:
                raise error

    def share_rows(self, shape: tuple[int, ...], work: Callable[[slice, slice], object]) -> None:
        """Run ``work(samples, rows)`` on parts of arrays of ``shape`` [B, P, W], whose rows are next to each other in memory."""
        batch, pixels, size = shape
        if self.splits_samples(batch):
            smallest = self.smallest_part(pixels * size)
            self.share(batch, smallest, lambda first, last: work(slice(first, last), slice(None)))
            return
        for sample in range(batch):

            def some(first: int, last: int, only: slice = slice(sample, sample + 1)) -> None:
                work(only, slice(first, last))

            self.share(pixels, self.smallest_part(size), some)

    def splits_samples(self, batch: int) -> bool:
        """Whether whole samples keep all threads busy."""
        return batch % self.threads == 0 or batch >= 4 * self.threads

    @staticmethod
    def smallest_part(elements: int, smallest: int = SMALLEST_ELEMENTS) -> int:
        """How many units of so many ``elements`` are worth another thread, as ``smallest`` elements are."""
        return ceil_divide(smallest, max(elements, 1))


ALONE = Team(1)
