"""Code blocks of the pages a newcomer reads: every command can be called as it stands there, and what would be pasted runs, in
order."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from ditto_zynq.host.cli.app import main

from tests.pipelines import unet2d

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "host/devices/README.md", "host/hls4ml/README.md")
TEXT = "\n".join((ROOT / page).read_text() for page in PAGES)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
FOLDERS = ("bitstreams", "hls", "host", "quant", "tests")
LINKING = [ROOT / "README.md", *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md")))]
COMMANDS = [
    words for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if (words := shlex.split(line, True))
]
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
QUICK = {  # what makes a command take seconds
    "prune": ("--steps", "1", "--runs", "1", "--run-steps", "2", "--tile", "4", "--lanes", "4"),
    "quantize": ("--trajectories", "1", "--norm", "0", "--fine", "0", "--groups", "1"),
    "generate": ("-n", "1"),
    "profile": ("--batch", "1"),
    "compare": ("--batch", "1"),
    "csim": ("--batch", "1", "--steps", "1"),
    "build": ("--project-only",),
    "boards": (),
    "selftest": ("--batch", "1"),
    "explore": ("runs/model", "--batch", "1"),
}
NOT_RUN = {  # commands, as they stand there, that are parsed only
    "generate runs/model --prompt": "runs/model is of classes here; the same stands below, of runs/text",
    "evaluate": "its reference is downloaded: host/studies/test_evaluation.py",
    "compare --architecture": "too slow: host/studies/test_compare.py",
    "compare --setting": "too slow: host/studies/test_paper_setting.py",
    "serve": "does not end: host/devices/test_remote_board.py",
}
OURS = [words[1:] for words in COMMANDS if words[0] == "ditto-zynq"]
RUN = [words for words in OURS if not any(" ".join(words).startswith(name) for name in NOT_RUN)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder with the repository's models, and a small class-conditional pipeline called MODEL."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "quant").symlink_to(ROOT / "quant")
    (folder / "runs" / "data").mkdir(parents=True)  # as the first command does
    torch.manual_seed(0)
    unet = UNet2DModel(**{**unet2d().config, "num_class_embeds": 10, "block_out_channels": (8, 16)})
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder / "MODEL")
    return folder


@pytest.fixture(autouse=True)
def somewhere_else(workspace, monkeypatch):
    monkeypatch.chdir(workspace)


def test_blocks_are_found():
    assert len(COMMANDS) > 12 and len(PYTHON) >= 4
    assert len(RUN) > 8 and all(any(" ".join(words).startswith(name) for words in OURS) for name in NOT_RUN)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_exist(words):
    """Those of this project are parsed, with all their options; nothing is run."""
    if words[0] == "ditto-zynq":
        main.commands[words[1]].make_context(words[1], words[2:])
    elif words[0].startswith("./"):
        assert os.access(ROOT / words[0], os.X_OK)
    else:
        assert words[0] in ("source", "pip", "dask") or words == ["mkdir", "-p", "runs/data"]


@pytest.mark.slow
@pytest.mark.hls
def test_what_can_be_pasted_runs():
    """The commands in order, with fewer images, trajectories and samples, on what those before them wrote; then every Python
    block."""
    for name, *arguments in RUN:
        result = CliRunner().invoke(main, [name, *arguments, *QUICK[name]])
        assert result.exit_code == 0, f"{name} {arguments}: {result.output}\n{result.exception!r}"
    for made in ("model/manifest.json", "images.png", "profile.json", "figures", "project", "hearts.png"):
        assert Path("runs", made).exists(), made
    for text in PYTHON:
        exec(compile(text, "README.md", "exec"), {"__name__": "README"})
    assert {path.name for path in Path().iterdir()} == {"MODEL", "quant", "runs"}, (
        "git does not ignore what was written"
    )


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
