"""Progress of a denoising run: a bar of its steps, each of which is reported once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


class OnceEach:
    """Reports every step of a batch once, though the batch may start anew."""

    def __init__(self, report: Callable[[], object]):
        self._report, self._steps, self._reported = report, 0, 0

    def __call__(self) -> None:
        """Count a step, and report it if none was reported in its place before."""
        self._steps += 1
        if self._steps > self._reported:
            self._reported = self._steps
            self._report()

    def restart(self) -> None:
        """Begin at the batch's first step again."""
        self._steps = 0


@contextlib.contextmanager
def progress_bar(shown: bool, steps: int) -> Iterator[Callable[[], object]]:
    """What is called after every step: it advances a tqdm bar of ``steps`` where one is ``shown``, and else does nothing."""
    if not shown:
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=steps, desc="denoise", unit="step") as bar:
        yield bar.update
