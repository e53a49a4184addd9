"""The dependency rule: quant -> hls, host -> hls, nothing else; and the runtime needs neither torch nor numba."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"hls": set(), "host": {"hls"}, "quant": {"hls"}}
HEAVY = ("torch", "diffusers", "transformers", "brevitas", "scipy", "pynq", "hls4ml", "numba", "matplotlib")
MODULES = [path for folder in ALLOWED for path in sorted((ROOT / folder).glob("**/*.py"))]


def imported_folders(path: Path) -> set[str]:
    """Folders of the project that a module imports, relatively or by the package's name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            found.add((node.module or "").split(".")[0])
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found.update(name.split(".")[1] for name in names if name.startswith("ditto_zynq."))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_folders_import_only_what_the_rule_allows(path):
    assert imported_folders(path) <= ALLOWED[path.relative_to(ROOT).parts[0]] | {path.relative_to(ROOT).parts[0]}


def test_the_rule_would_notice():
    tree = ROOT / "host" / "compiler.py"
    assert "hls" in imported_folders(tree)


def run_without(packages: tuple[str, ...], code: str) -> str:
    """Run code in a fresh interpreter in which ``packages`` cannot be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
    result = subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


NEEDED_BY = {  # modules of the runtime that are only imported where their package is used
    "numba": ("kernels", "product_kernels"),
    "pynq": ("board", "emulated_board", "remote_board", "remote_client"),
    "diffusers": ("diffusers", "diffusers_scheduler", "pipeline_hooks", "tensors"),
    "hls4ml": ("hls4ml_backend",),
    "matplotlib": ("plots",),
}


def test_the_runtime_imports_without_heavy_packages():
    excepted = {"__init__", *(module for modules in NEEDED_BY.values() for module in modules)}
    runtime = [path for path in MODULES if path.parent.name in ("hls", "host") and path.stem not in excepted]
    wanted = [f"ditto_zynq.{path.parent.name}.{path.stem}" for path in runtime]
    run_without(HEAVY, "\n".join(f"import {name}" for name in wanted))


def test_help_imports_nothing_heavy():
    code = "import sys; import ditto_zynq.host.cli; print(','.join(sys.modules))"
    loaded = run_without((), code).split(",")
    assert not {"numpy", "PIL", *HEAVY} & set(loaded)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_syntax_is_that_of_python_3_10(path):
    ast.parse(path.read_text(), feature_version=(3, 10))
