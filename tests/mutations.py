"""Model folders as an enemy would make them: one thing in a sound one is changed, and the manifest's hashes are made right again.

A case is a number: the same one gives the same folder. Changes are of JSON (types, values, sizes, structure), of tables (type,
shape, entries at the ends of their legal ranges and beyond, missing and extra ones), of raw bytes, and of the files themselves.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ditto_zynq.hls.artefact.folder import COMPONENTS, INDEX, MANIFEST, SCHEDULER, Files
from ditto_zynq.hls.contract.graph import Graph
from ditto_zynq.hls.contract.graph_json import graph_from_json
from ditto_zynq.hls.contract.table_rules import table_rules
from safetensors.numpy import load_file, save_file

from tests.helpers import change_json

SMALL = (None, True, False, -1, 0, 1, 2, 3, 5, 7, 31, 32, 63, 64, 255, 256, 1000)
LARGE = (65535, 65536, 10**6, 10**9, 2**31, 2**63, 10**40, -(2**63))
REAL = (0.5, 1e-9, 1.5, 31.0, 1e300, float("nan"), float("inf"), -float("inf"))
TEXTS = ("", "x", "code", "value", "two\nlines", "../../x", "\x00", "n" * 5000)
NESTED = ([], {}, [[]], [0], [1, 1], [1, 2, 3], [None], ["x"], {"x": 1})
VALUES: tuple[Any, ...] = (*SMALL, *LARGE, *REAL, *TEXTS, *NESTED)
BETA_FIELDS = ("beta_start", "beta_end", "trained_betas", "num_train_timesteps", "beta_schedule", "prediction_type")
CLIP_FIELDS = ("clip_sample", "clip_sample_range", "thresholding", "dynamic_thresholding_ratio", "sample_max_value")
STEP_FIELDS = ("timestep_spacing", "steps_offset", "set_alpha_to_one", "rescale_betas_zero_snr", "variance_type")
SCHEDULER_FIELDS = (*BETA_FIELDS, *CLIP_FIELDS, *STEP_FIELDS, "_class_name")
SCHEDULER_VALUES = (
    *VALUES,
    "sample",
    "v_prediction",
    "trailing",
    "linspace",
    "scaled_linear",
    "squaredcos_cap_v2",
    "sigmoid",
    "learned_range",
    "FooScheduler",
    "EulerDiscreteScheduler",
    "VQDiffusionScheduler",
    "FlowMatchEulerDiscreteScheduler",
)
RUN_FIELDS = ("scheduler", "eta", "timesteps", "labels", "guidance", "steps", "groups", "weight_bits", "rule")
QUANTIZATION_FIELDS = (*RUN_FIELDS, "timestep_cond", "added_cond_kwargs")
MOST_NESTED = 100_000


class Folder:
    """A model folder in memory, to be changed and written."""

    def __init__(self, source: Path):
        self.source = source
        manifest = json.loads((source / MANIFEST).read_text())
        name = next(name for name in COMPONENTS if Files(name).graph in manifest["sha256"])
        self.files = Files(name)
        self.names = [*self.files.all, *([INDEX] if INDEX in manifest["sha256"] else [])]
        self.documents = {
            name: json.loads((source / name).read_text()) for name in self.names if name.endswith(".json")
        }
        self.weights, self.tables = load_file(source / self.files.weights), load_file(source / self.files.tables)
        self.raw: dict[str, bytes] = {}  # instead of a document or a file of tables
        self.finish: list[Callable[[Path], None]] = []  # what is done to the files in the end

    @property
    def graph(self) -> Graph:
        return graph_from_json(json.loads((self.source / self.files.graph).read_text()))

    def write(self, folder: Path) -> None:
        for name in self.files.all:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for name, document in self.documents.items():
            (folder / name).write_text(json.dumps(document))
        save_file(_sound(self.weights), folder / self.files.weights)
        save_file(_sound(self.tables), folder / self.files.tables)
        for name, content in self.raw.items():
            (folder / name).write_bytes(content)
        hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in self.names}
        manifest = json.loads((self.source / MANIFEST).read_text()) | {"sha256": hashes}
        (folder / MANIFEST).write_text(json.dumps(manifest))
        for change in self.finish:
            change(folder)


def _sound(tables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of what is written nothing is a view with other strides."""
    return {name: np.ascontiguousarray(table) if table.ndim else table.copy() for name, table in tables.items()}


def mutate(source: Path, folder: Path, case: int) -> str:
    """Write case ``case`` of ``source`` to the new ``folder``; returns what was changed."""
    random = np.random.default_rng(case)
    changed = Folder(source)
    kinds = (
        _json,
        _json,
        _graph_field,
        _graph_field,
        _table,
        _table,
        _table,
        _entry,
        _entry,
        _entry,
        _schedule,
        _bytes,
        _files,
    )
    done = []
    for _ in range(int(random.choice([1, 1, 2]))):
        done.append(_pick(random, kinds)(changed, random))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    changed.write(folder)
    return "; ".join(done)


def _pick(random: np.random.Generator, options: Any) -> Any:
    options = list(options)
    return options[int(random.integers(len(options)))]


# ------------------------------------------------------------------------------------------------------------- JSON


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside a document."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in inner for place in ((*path, key), *_places(value, (*path, key)))]


def _holder(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


def _json(folder: Folder, random: np.random.Generator) -> str:
    name = _pick(random, folder.documents)
    return f"{name}: {_change_place(folder.documents[name], _pick(random, _places(folder.documents[name])), random)}"


def _change_place(document: Any, path: tuple[Any, ...], random: np.random.Generator) -> str:
    holder, key = _holder(document, path), path[-1]
    old, kind = holder[key], int(random.integers(6))
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other = _pick(random, _places(document))
        holder[key] = copy.deepcopy(_holder(document, other)[other[-1]])
    elif kind == 2 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(old))
    elif kind == 2:
        holder["surprise"] = old
    elif kind == 3 and isinstance(old, (int, float)):
        holder[key] = old + int(random.choice([-1, 1])) if random.random() < 0.5 else old * 2
    elif kind == 4 and isinstance(holder, list) and len(holder) > 1:
        other = int(random.integers(len(holder)))
        holder[key], holder[other] = holder[other], holder[key]
    else:
        holder[key] = copy.deepcopy(_pick(random, VALUES))
    return f"{'.'.join(map(str, path))} changed in way {kind} from {str(old)[:40]}"


def _graph_field(folder: Folder, random: np.random.Generator) -> str:
    """A field of a node or of the graph, other than names: changes after which shapes mostly still fit."""
    graph = folder.documents[folder.files.graph]
    node = _pick(random, graph["nodes"])
    way = int(random.integers(6))
    if way == 0:
        field = _pick(
            random, [field for field in node if field not in ("op", "name", "module", "inputs")] or ["module"]
        )
        value = node.get(field)
        node[field] = not value if isinstance(value, bool) else _pick(random, VALUES)
        return f"{node['name']}.{field} = {str(node[field])[:40]}"
    if way == 1:
        alike = [
            t["name"] for t in graph["tensors"] if node["inputs"] and t["shape"] == _shape(graph, node["inputs"][0])
        ]
        node["inputs"][0] = _pick(random, alike or ["sample"])
        return f"{node['name']} reads {node['inputs'][0]}"
    if way == 2:
        node["inputs"] = [_pick(random, graph["tensors"])["name"] for _ in range(int(random.integers(0, 4)))]
        return f"{node['name']} reads {node['inputs']}"
    if way == 3:
        graph["output"] = _pick(random, graph["nodes"])["name"]
        return f"output is {graph['output']}"
    if way == 4:
        field = _pick(
            random,
            [
                "labels",
                "input_parts",
                "output_parts",
                "context_parts",
                "group_of_step",
                "context",
                "constants",
                "input_layout",
            ],
        )
        graph[field] = _pick(random, VALUES)
        return f"graph.{field} = {str(graph[field])[:40]}"
    steps = graph["group_of_step"]
    graph["group_of_step"] = [int(step) for step in random.permutation(steps)]
    return "step groups in another order"


def _shape(graph: Any, name: str) -> Any:
    return next((tensor["shape"] for tensor in graph["tensors"] if tensor["name"] == name), None)


def _schedule(folder: Folder, random: np.random.Generator) -> str:
    if random.random() < 0.5:
        field = _pick(random, SCHEDULER_FIELDS)
        folder.documents[SCHEDULER][field] = value = _pick(random, SCHEDULER_VALUES)
        return f"scheduler.{field} = {str(value)[:40]}"
    quantization = folder.documents[folder.files.config].get("quantization_config")
    if not isinstance(quantization, dict):
        return "nothing"
    field = _pick(random, QUANTIZATION_FIELDS)
    old = quantization.get(field)
    if isinstance(old, list) and old and random.random() < 0.7:
        old[int(random.integers(len(old)))] = _pick(random, VALUES)
    else:
        quantization[field] = _pick(random, VALUES)
    return f"quantization.{field} changed"


# ------------------------------------------------------------------------------------------------------------- tables


def _any_table(folder: Folder, random: np.random.Generator) -> tuple[dict[str, np.ndarray], str]:
    tables = folder.weights if random.random() < 0.2 else folder.tables
    return tables, _pick(random, tables) if tables else ""


def _table(folder: Folder, random: np.random.Generator) -> str:
    tables, name = _any_table(folder, random)
    if not name:
        return "nothing"
    table, way = tables[name], int(random.integers(9))
    if way == 0:
        del tables[name]
    elif way == 1:
        tables[name] = table.astype(
            _pick(random, [np.int8, np.int16, np.int32, np.int64, np.float32, np.float64, np.uint8])
        )
    elif way == 2:
        tables[name] = table[..., :-1]
    elif way == 3:
        tables[name] = (
            np.concatenate([table, table], axis=int(random.integers(table.ndim))) if table.ndim else table[None]
        )
    elif way == 4:
        tables[name] = table[None] if random.random() < 0.5 else table.T
    elif way == 5:
        tables[name] = table.reshape(-1)
    elif way == 6:
        tables[f"{name}{_pick(random, ['', '.x', 'x'])}" if random.random() < 0.5 else "extra"] = table
        (folder.tables if tables is folder.weights else folder.weights)[name] = table
    elif way == 7:
        other = _pick(random, tables)
        tables[name], tables[other] = tables[other], table
    else:
        tables[name] = np.zeros((0,), table.dtype) if random.random() < 0.5 else table.astype(np.float64) * np.nan
    return f"{name} changed in way {way}"


def _entry(folder: Folder, random: np.random.Generator) -> str:
    """One entry, a row or all of a table, at the ends of its legal range, beside them, or anywhere in its type's."""
    tables, name = _any_table(folder, random)
    if not name or tables[name].size == 0:
        return "nothing"
    table = tables[name].copy()
    if table.dtype.kind == "f":
        options: list[Any] = [0.0, -1.0, np.nan, np.inf, 5e-324, 1e-30, 1e30, 1e31, 1e308, 1.0]
    else:
        limits = np.iinfo(table.dtype)
        rule = table_rules(folder.graph).get(name)
        ends = (
            [limits.min, limits.max]
            if rule is None
            else [rule.low, rule.high, rule.low, rule.high, rule.low - 1, rule.high + 1]
        )
        options = [*ends, 0, 1, -1, 62, 63, 64, limits.min, limits.max]
        options = [min(max(int(option), int(limits.min)), int(limits.max)) for option in options]
    value, way = _pick(random, options), int(random.integers(3))
    if way == 0:
        table.reshape(-1)[int(random.integers(table.size))] = value
    elif way == 1:
        table[int(random.integers(len(table)))] = value
    else:
        table[...] = value
    tables[name] = table
    return f"{name}: {('an entry', 'a row', 'all')[way]} = {value}"


# ------------------------------------------------------------------------------------------------------------- bytes and files


def _bytes(folder: Folder, random: np.random.Generator) -> str:
    name, way = _pick(random, folder.files.all), int(random.integers(8))
    if name in folder.documents:
        text = json.dumps(folder.documents[name])
        content = (
            text.encode()[: int(random.integers(len(text)))],
            text.encode("utf-16"),
            b"\xff\xfe" + text.encode(),
            b"[" * MOST_NESTED + b"]" * MOST_NESTED,
            b'{"tensors": ' * MOST_NESTED + b"1" + b"}" * MOST_NESTED,
            text.replace("{", '{"labels": 3, "labels": 4, ', 1).encode(),
            b'{"labels": ' + b"9" * 6000 + b"}",
            b"\x00" * 100,
        )[way]
    else:
        sound = (folder.source / name).read_bytes()
        size = int.from_bytes(sound[:8], "little")
        header = json.loads(sound[8 : 8 + size])
        first = next(entry for key, entry in header.items() if key != "__metadata__")
        if way == 0:
            content = sound[:-5]
        elif way == 1:
            content = sound + b"12345"
        elif way == 2:
            content = (2 ** int(random.choice([20, 40, 63]))).to_bytes(8, "little") + sound[8:]
        elif way == 3:
            first["data_offsets"] = [0, 10**12]
        elif way == 4:
            first["shape"] = [10**6, 10**6]
        elif way == 5:
            first["dtype"] = str(_pick(random, ["F16", "BF16", "BOOL", "U64", "x"]))
        elif way == 6:
            first["data_offsets"] = [-1, "x"]
        else:
            first["shape"] = [-1]
        if way > 2:
            text = json.dumps(header).encode()
            content = len(text).to_bytes(8, "little") + text + sound[8 + size :]
    folder.raw[name] = content
    return f"bytes of {name} changed in way {way}"


def _files(folder: Folder, random: np.random.Generator) -> str:
    name, way = _pick(random, folder.files.all), int(random.integers(11))

    def listed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
        return lambda target: change_json(target / MANIFEST, change)

    def link(to: str) -> Callable[[Path], None]:
        def apply(target: Path) -> None:
            (target / name).unlink()
            (target / name).symlink_to(to)

        return apply

    def other_kind(target: Path) -> None:
        (target / name).unlink()
        os.mkfifo(target / name) if random.random() < 0.5 else (target / name).mkdir()

    def unlisted(target: Path) -> None:
        place = target / (INDEX if random.random() < 0.5 else f"{folder.files.name}/evil.py")
        place.write_text("{}")

    value, digest = _pick(random, VALUES), "0" * 64
    path = _pick(random, ["../x.json", "/etc/passwd.json", "a/\x00.json", "n" * 300 + ".json", "x.py", "", "a" * 2000])
    folder.finish.append(
        (
            listed(lambda manifest: manifest["sha256"].update({path: digest})),
            listed(lambda manifest: manifest["sha256"].update({name: value})),
            listed(lambda manifest: manifest["sha256"].pop(name)),
            listed(lambda manifest: manifest["sha256"].update({f"{i}.json": digest for i in range(5000)})),
            listed(lambda manifest: manifest.update({_pick(random, ["format", "version", "sha256"]): value})),
            link("/dev/zero"),
            link(Path(name).name),
            link("/etc/passwd"),
            other_kind,
            unlisted,
            lambda target: (target / name).unlink(),
        )[way]
    )
    return f"files ({name}) changed in way {way}"
