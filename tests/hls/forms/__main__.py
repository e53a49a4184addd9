"""``python -m tests.hls.forms KERNEL.cpp``: what of a kernel's forms Vitis HLS would refuse or build badly, a line for each."""

from __future__ import annotations

import sys
from pathlib import Path

from .rules import findings
from .tree import parse


def main(arguments: list[str]) -> int:
    """Print what breaks a rule; the number of such things, at most 1."""
    found = [each for name in arguments for each in findings(parse(Path(name)))]
    for each in found:
        print(each)
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
