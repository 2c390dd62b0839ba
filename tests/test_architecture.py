"""The house's rules: who may import whom, and which package is opened in one place only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lhuc_asr"
BASE = {"errors", "units", "ranges", "files", "tensors", "paired_files", "progress", "parallel", "dependencies"}
MAY_IMPORT = {
    "errors": set(),
    "units": set(),
    "ranges": {"errors"},
    "files": {"errors"},
    "tensors": {"errors", "files"},
    "paired_files": {"files"},
    "progress": {"errors"},
    "parallel": {"errors", "progress"},
    "dependencies": {"errors"},
    "lang": BASE,
    "data": BASE,
    "features": BASE | {"data"},
    "models": BASE,
    "lhuc": BASE,
    "profiles": BASE | {"lhuc"},
    "pretrained": BASE | {"lang", "lhuc"},
    "hmm": BASE | {"data", "features", "lang"},
    "decoding": BASE | {"hmm", "lang"},
    "scoring": BASE | {"decoding", "lang"},
    "training": BASE | {"data", "features", "hmm", "lang", "lhuc", "models"},
    "system": BASE | {"data", "decoding", "features", "hmm", "lang", "lhuc", "models", "profiles", "training"},
    "adaptation": BASE
    | {"data", "decoding", "features", "hmm", "lang", "lhuc", "models", "profiles", "system", "training"},
    "ranking": BASE | {"lhuc", "scoring", "training"},
    "conditioning": BASE | {"data", "features", "hmm", "lang", "lhuc", "models", "profiles", "system", "training"},
    "metalearning": BASE | {"conditioning", "data", "features", "lhuc", "models", "profiles", "system", "training"},
    "bench": BASE | {"adaptation", "features", "lhuc", "models", "profiles", "ranking", "scoring", "training"},
}
ROOMS = {*MAY_IMPORT, "config", "cli"}
MAY_IMPORT["config"] = ROOMS - {"cli"}
MAY_IMPORT["cli"] = ROOMS

SUB_ROOMS = {
    "adaptation": ("parameters", "passes", "targets", "objectives", "update"),
    "decoding": ("words", "lattices"),
    "hmm": ("states", "tying", "graphs", "mixtures"),
    "training": ("schedule", "processes", "examples", "tasks", "criteria"),
}
"""Room -> its sub-rooms; each imports only those before it, and the files beside them lie on top."""

ONLY_IN = {
    "hydra": "config/",
    "omegaconf": "config/",
    "yaml": "config/",
    "soundfile": "data/audio.py",
    "torchaudio": "dependencies.py",
    "argparse": "cli/",
    "pickle": "nowhere",
    "kaldi_hmm_gmm": "nowhere",
    "k2": "nowhere",
    "pynini": "nowhere",
    "kaldilm": "nowhere",
}
"""Third-party package -> the one place that may import it."""

SOURCES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(source.relative_to(PACKAGE)) for source in SOURCES]


def imported(source: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, those inside functions and for type checking as well.

    Of ``from package import name`` both the package and the name in it, which may be a module.
    """
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno}: imports are by full module path"
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("name", NAMES)
def test_imports_run_downwards(name: str) -> None:
    room = Path(name).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert room in ROOMS, f"{name}: a room that the map in test_architecture.py does not know"
    for line, module in imported(PACKAGE / name):
        used = module.split(".")[1] if module.startswith("lhuc_asr.") else room
        if used != "__version__":
            assert used == room or used in MAY_IMPORT[room], f"{name}:{line}: {room} may not import {used}"


@pytest.mark.parametrize("room", SUB_ROOMS)
def test_imports_among_sub_rooms_run_downwards(room: str) -> None:
    order = SUB_ROOMS[room]
    assert set(order) == {own.parent.name for own in (PACKAGE / room).glob("*/__init__.py")}
    for height, sub_room in enumerate(order):
        for source in (PACKAGE / room / sub_room).rglob("*.py"):
            for line, module in imported(source):
                if module.startswith(f"lhuc_asr.{room}."):
                    used = module.split(".")[2]
                    assert used in order[: height + 1], f"{source}:{line}: {sub_room} may not import {used}"


def test_no_files_import_each_other() -> None:
    """Neither two nor more of them in a circle; what two need of each other stands below both."""
    modules = {module_of(source): source for source in SOURCES}
    imports = {
        module: {used for _, used in imported(source) if used in modules and used != module}
        for module, source in modules.items()
    }
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def module_of(source: Path) -> str:
    parts = source.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("name", NAMES)
def test_some_packages_are_imported_in_one_place_only(name: str) -> None:
    for line, module in imported(PACKAGE / name):
        place = ONLY_IN.get(module.split(".")[0])
        assert place is None or name.startswith(place), f"{name}:{line}: {module} belongs to {place}"


@pytest.mark.parametrize("name", NAMES)
def test_only_commands_print_or_leave_the_process(name: str) -> None:
    if name.startswith("cli/"):
        return
    for node in ast.walk(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "sys.exit", "exit", "quit"), f"{name}:{node.lineno}: {called}"
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) != "sys.argv" or name == "config/provenance.py", f"{name}:{node.lineno}: sys.argv"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("models/")])
def test_models_never_mention_lhuc(name: str) -> None:
    text = (PACKAGE / name).read_text(encoding="utf-8").lower().replace("lhuc_asr", "")
    assert "lhuc" not in text


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("lhuc/")])
def test_the_adapter_works_on_any_module(name: str) -> None:
    rooms = {module.split(".")[1] for _, module in imported(PACKAGE / name) if module.startswith("lhuc_asr.")}
    assert rooms <= BASE | {"lhuc"}


def test_every_room_says_what_it_is() -> None:
    for room in (path for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "configs")):
        first = room / "__init__.py"
        assert first.is_file(), f"{room} lacks __init__.py"
        assert ast.get_docstring(ast.parse(first.read_text(encoding="utf-8"))), f"{first} lacks its line"
