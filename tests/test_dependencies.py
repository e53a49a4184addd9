"""The dependency rule: floors, each of which imports only what is below it; and the runtime needs neither torch nor numba."""

from __future__ import annotations

import ast
import graphlib
import re

import pytest

from tests.helpers import ROOT, run_without

FLOORS = {  # of each folder, from the ground; a module outside of them stands on top of all
    "hls": ("common", "contract", "artefact", "machine", "build"),
    "host": (
        "common",
        "compute",
        "counting",
        "operators",
        "program",
        "costs",
        "devices",
        "runtime",
        "diffusers",
        "hls4ml",
        "studies",
        "cli",
    ),
    "quant": ("common", "builders", "operators", "trace", "calibrate", "prune", "pipeline", "qonnx", "zoo", "judge"),
}
BELOW = {"hls": set(), "host": {"hls"}, "quant": {"hls"}}
BY_NAME = {  # modules of the runtime that find the quantizer by its name, where it is installed
    "host.cli.quantize": {"quant.common.options", "quant.quantize"},
    "host.cli.prune": {"quant.common.options", "quant.prune_model"},
    "host.studies.evaluation": {"quant.judge.evaluate"},
}
REGISTRIES = (  # rooms that are entered as a whole: all of a kind, by name
    "hls.contract.operators",
    "hls.contract.references",
    "host.operators",
    "quant.operators",
)
HEAVY = (
    "torch",
    "torch_pruning",
    "diffusers",
    "transformers",
    "brevitas",
    "scipy",
    "pynq",
    "hls4ml",
    "numba",
    "matplotlib",
)
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in FLOORS
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def absolute(module: str, dots: int, name: str) -> str:
    """What ``name`` after ``dots`` means in ``module``."""
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    assert dots <= len(package) + 1, f"{module} imports from beyond the package"
    return ".".join([*package[: len(package) - dots + 1], *([name] if name else [])])


def imported(module: str) -> set[str]:
    """Modules of the project that a module's import statements name, those of types and inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            base = absolute(module, node.level, node.module or "") if node.level else f"{node.module}"
            names = [f"{base}.{alias.name}" for alias in node.names] + [base]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found.update(name.removeprefix("ditto_zynq.") for name in names)
    return {name for name in found & MODULES.keys() if not _is_package_of(name, found)}


def _is_package_of(name: str, others: set[str]) -> bool:
    return MODULES[name].name == "__init__.py" and any(other.startswith(f"{name}.") for other in others)


def imported_by_name(module: str) -> set[str]:
    """Those that ``import_module`` is given as text."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
            dots = len(name) - len(name.lstrip("."))
            if dots:
                found.add(absolute(module, dots, name.lstrip(".")))
    return found


def height(module: str) -> int:
    """Of a module's floor in its folder."""
    folder, *rooms = module.split(".")
    known = FLOORS[folder]
    return known.index(rooms[0]) if rooms and rooms[0] in known else len(known)


def is_allowed(module: str, other: str) -> bool:
    folder, target = module.split(".")[0], other.split(".")[0]
    return target in BELOW[folder] or (target == folder and height(other) <= height(module))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_is_below_it(module):
    assert not [other for other in imported(module) if not is_allowed(module, other)]
    by_name = imported_by_name(module)
    assert by_name <= MODULES.keys(), "imported by name, but not there"
    above = {other for other in by_name if not is_allowed(module, other)}
    assert above == BY_NAME.get(module, set())


def test_nothing_imports_itself_in_a_circle():
    graphlib.TopologicalSorter({module: imported(module) for module in MODULES}).prepare()


def test_every_floor_is_there_and_says_what_it_is_for():
    for folder, floors in FLOORS.items():
        rooms = {path.parent.name for path in (ROOT / folder).glob("*/*.py")}
        assert rooms - {"notebooks"} == set(floors), "a floor without a place in the order, or a place without a floor"
        page = (ROOT / folder / "README.md").read_text()
        for floor in floors:
            assert ast.get_docstring(ast.parse((ROOT / folder / floor / "__init__.py").read_text())), floor
            assert f"`{floor}/`" in page, f"{folder}/README.md does not name {floor}/"


def test_entering_a_room_loads_no_other():
    """What a package imports when it is entered would be an import of every module in it."""
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            at_once = [
                node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))
            ]
            relative = [node for node in at_once if isinstance(node, ast.ImportFrom) and node.level]
            assert not relative or name in REGISTRIES, name


def test_every_package_is_in_the_wheel():
    listed = re.findall(r'"ditto_zynq\.([\w.]+)",', (ROOT / "pyproject.toml").read_text())
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert {name for name in listed if name != "bitstreams"} == packages


def test_the_rule_would_notice():
    assert "hls.contract.graph" in imported("host.program.compiler")
    assert "host.common.limits" in imported("host.program.compiler")
    assert not is_allowed("hls.contract.graph", "hls.machine.config")
    assert not is_allowed("hls.contract.graph", "host.program.compiler")
    assert is_allowed("host.program.compiler", "host.common.limits")


NEEDED_BY = {  # rooms of the runtime that are only entered where their package is used
    "numba": ("host.compute.vector_loops", "host.compute.product_loops"),
    "pynq": tuple(f"host.devices.{name}" for name in ("board", "emulated_board", "remote_board", "remote_client")),
    "diffusers": ("host.diffusers", "host.runtime.diffusers_scheduler"),
    "hls4ml": ("host.hls4ml.backend",),
    "matplotlib": ("host.studies.plots",),
}


def test_the_runtime_imports_without_heavy_packages():
    excepted = tuple(module for modules in NEEDED_BY.values() for module in modules)
    runtime = [name for name in MODULES if not name.startswith(("quant", *excepted)) and not name.endswith("__main__")]
    run_without(HEAVY, "\n".join(f"import ditto_zynq.{name}" for name in runtime))


def test_help_imports_nothing_heavy():
    code = "import sys; import ditto_zynq.host.cli.app; print(','.join(sys.modules))"
    loaded = run_without((), code).split(",")
    assert not {"numpy", "PIL", *HEAVY} & set(loaded)


@pytest.mark.parametrize("path", MODULES.values(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_syntax_is_that_of_python_3_10(path):
    ast.parse(path.read_text(), feature_version=(3, 10))
