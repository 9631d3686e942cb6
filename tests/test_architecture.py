"""The package keeps the shape that docs/architecture.md shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ekipl"
CONTENT = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
FILES = {str(path): PACKAGE / path for path in CONTENT if path.suffix == ".py"}
COMMON = {"errors", "files", "importing", "masking", "progress"}
TREE, RULES = ((ROOT / "docs" / "architecture.md").read_text().split("```\n")[n] for n in (3, 5))
ALLOWED = {room: {*rooms, room, *COMMON} for room, *rooms in map(str.split, RULES.splitlines())}
LIBRARIES = {  # exceptions: torch's launcher, a callback of Hydra, the run directory of two stages
    "torch": ("policy/", "engine/", "algorithm/loss.py", "run/launch.py"),
    "litellm": ("external/client.py",),
    "hydra": ("cli.py", "run/build.py", "run/preflight.py", "commands/train.py"),
}


@cache
def imports(file: str) -> list[tuple[int, list[str]]]:
    """Line and dotted parts of every import of a file, in functions and under TYPE_CHECKING too."""
    found: list[tuple[int, list[str]]] = []
    for node in ast.walk(ast.parse(FILES[file].read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            found += [(node.lineno, [*str(node.module).split("."), alias.name]) for alias in node.names]
    return found


def room(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def edges() -> Iterator[tuple[str, str, str]]:
    """(from, to, where) of every import between two rooms."""
    for file in FILES:
        for line, (package, *rest) in imports(file):
            if package == "ekipl" and room(file) != rest[0] != "__version__":
                yield room(file), rest[0], f"{file}:{line}"


def test_rooms_import_only_what_the_table_allows() -> None:
    everywhere = ALLOWED | dict.fromkeys(COMMON, {"errors"}) | {"__main__": {"cli"}, "__init__": {"run"}}
    assert [where for here, there, where in edges() if there not in everywhere[here]] == []


def test_the_table_has_no_circle() -> None:
    TopologicalSorter({here: there - {here} for here, there in ALLOWED.items()}).prepare()  # raises CycleError


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_heavy_library_has_its_place(library: str) -> None:
    users = {file for file in FILES if any(parts[0] == library for _, parts in imports(file))}
    assert [file for file in sorted(users) if not file.startswith(LIBRARIES[library])] == []


def test_the_documentation_shows_every_folder_and_the_whole_algorithm() -> None:
    shown = {line.split()[0] for line in TREE.splitlines()[1:]}
    folders = {f"{folder}/" for path in CONTENT for folder in path.parents if folder.name}
    files = {path.name for path in CONTENT if str(path.parent) in (".", "algorithm") and path.name[0] != "_"}
    assert shown == folders | files


def test_files_and_the_top_level_stay_small() -> None:
    assert len({path.parts[0] for path in CONTENT}) <= 20
    assert [file for file, path in FILES.items() if path.read_text().count("\n") > 300] == []
