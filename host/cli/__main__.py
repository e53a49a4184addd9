"""``python -m ditto_zynq.host.cli``: the same as the command ``ditto-zynq``."""

from .app import main

main()
