"""``boards``, and what ``serve`` says."""

from __future__ import annotations

import json

from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.resources import estimate

from tests.host.cli.commands import invoke


def test_boards_are_listed():
    table = invoke("boards").stdout
    share = estimate(default_config("zcu104")).lut / 230_400
    assert "zcu104" in table and f"230,400  {share:.0%}" in table, "resources and the estimated share"
    assert {board["name"] for board in json.loads(invoke("boards", "--json").stdout)} >= {"zcu104", "kv260", "pynq-z2"}
