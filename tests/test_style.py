"""Lint, format and types are part of the tests."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
CPP = sorted([*(ROOT / "hls" / "kernels").rglob("*.hpp"), *(ROOT / "tests").rglob("*.cpp")])
TEMPLATES = sorted((ROOT / "hls" / "templates").glob("*.j2"))
CLANG_FORMAT = "23"  # what .clang-format was tried with: others break some lines elsewhere
FOLDERS = ("hls", "host", "quant")
SOURCES = [str(path.relative_to(ROOT)) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
FRAGMENTS = ("Of ", "Those ", "The same", "Both")  # how a docstring begins that makes sense only after another one
MOST_LINES = 400
WITHOUT_A_TEST = {  # modules that need no test of their name, and why
    "hls/common/limits.py": "constants",
    "hls/common/notices.py": "classes of warnings without code",
    "host/common/errors.py": "classes of errors without code",
    "quant/common/unsupported.py": "a class of errors without code",
    "host/common/limits.py": "constants",
    "host/cli/__main__.py": "calls app.py",
}


def run(*command: str, cwd: Path = ROOT) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_lint():
    run("ruff", "check", ".")


def test_format():
    run("ruff", "format", "--check", ".")


@pytest.mark.parametrize("path", [*CPP, *TEMPLATES], ids=lambda path: path.name)
def test_lines_and_files_are_short(path):
    """Of C++ and of templates: what is formatted by hand, or where clang-format is not installed."""
    lines = path.read_text().splitlines()
    assert len(lines) <= 400, "too long for one file"
    assert not [number for number, line in enumerate(lines, 1) if len(line) > 120], "lines of more than 120 columns"


def test_format_of_cpp():
    """Where somebody has installed clang-format, with its settings in .clang-format."""
    try:
        version = importlib.metadata.version("clang-format")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip install clang-format")
    if version.split(".")[0] != CLANG_FORMAT:
        pytest.skip(f"clang-format {version} is there, expected {CLANG_FORMAT}")
    command = [Path(sys.executable).with_name("clang-format"), "--dry-run", "-Werror", *CPP]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_types(tmp_path):
    package = tmp_path / "ditto_zynq"  # as it is installed: the folders are parts of one namespace
    package.mkdir()
    for folder in FOLDERS:
        (package / folder).symlink_to(ROOT / folder)
    options = ("--config-file", str(ROOT / "pyproject.toml"), "--namespace-packages", "--explicit-package-bases")
    run("mypy", *options, "-p", "ditto_zynq", cwd=tmp_path)


def docstrings(path: Path) -> list[str]:
    """Those of a module, of its classes and of its functions."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    return [text for node in nodes if (text := ast.get_docstring(node))]


@pytest.mark.parametrize("name", SOURCES)
def test_docstrings_are_sentences(name):
    """Each can be read alone, as editors show it."""
    assert not [text for text in docstrings(ROOT / name) if text.startswith(FRAGMENTS)]


def test_no_file_is_too_long_to_be_one_concept():
    """A test file may say in its docstring why it is one file."""
    modules = [ROOT / name for name in SOURCES]
    tests = [path for path in (ROOT / "tests").rglob("*.py") if "One file, for" not in " ".join(docstrings(path)[:1])]
    assert not [str(path) for path in (*modules, *tests) if len(path.read_text().splitlines()) > MOST_LINES]


def test_every_module_has_a_test_file_of_its_name():
    """In the mirror of its floor, so that whoever changes a module finds what looks at it."""
    modules = [Path(name) for name in SOURCES if not name.endswith("__init__.py")]
    missing = {str(path) for path in modules if not (ROOT / "tests" / path.parent / f"test_{path.name}").is_file()}
    assert missing == set(WITHOUT_A_TEST), "a module without its test file, or a reason without its module"


def test_no_test_depends_on_how_fast_the_machine_is():
    """Tests wait for events; what ends a test that hangs is a limit of a minute at least, or none: 0. Benches count
    simulated time."""
    assert settings.default.deadline is None and HealthCheck.too_slow in settings.default.suppress_health_check
    sources = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    for path in sources:
        text = path.read_text()
        assert not re.search(r"\b(monotonic|perf_counter|process_time|time\.time)\(", text), f"{path} looks at a clock"
        limits = re.findall(
            r"\b(?:timeout|idle_s|deadline_s|lease_s)=([0-9.]+)|\.(?:join|wait|acquire|result|exception)\(([0-9.]+)\)"
            r"|\bwait_for\([^\n]*, ([0-9.]+)\)",
            text,
        )
        short = [limit for groups in limits for limit in groups if limit and 0 < float(limit) < 60]
        assert not short, f"{path} waits for no more than {short[0]} s"
