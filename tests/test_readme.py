"""The commands that README and docs show are commands that work."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from ekipl.cli import PLAIN
from tests.command import ekipl

ROOT = Path(__file__).parent.parent
PAGES = ("quickstart", "configuration", "tasks", "distributed", "reproducing", "view", "your-data")
DOCUMENTS = ("README.md", *(f"docs/{page}.md" for page in PAGES))


def shown() -> list[str]:
    """Every ``ekipl ...`` line of the documents' code blocks, without its comment and redirection.

    Those with ``--config-dir`` are left out: they need files or libraries that are not here.
    """
    lines = []
    for document in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", (ROOT / document).read_text(), re.DOTALL):
            commands = (line for line in block.splitlines() if line.startswith("ekipl ") and "--config-dir" not in line)
            lines += [re.split(r"  #| > ", line)[0].strip() for line in commands]
    return list(dict.fromkeys(lines))


@pytest.mark.parametrize("line", shown())
def test_it_composes(line: str, tmp_path: Path) -> None:
    """With ``--cfg job``: the command, its groups, keys and flags all exist."""
    line = line.replace("RUN", "x").replace("FILE", "x").replace("DIR", str(tmp_path))
    words = [word for word in shlex.split(line)[1:] if word not in ("--multirun", "-m")]
    if words[0] in PLAIN:
        assert import_module(f"ekipl.commands.{words[0]}").parsed(words[1:])
        return
    if any("," in word and "=" in word for word in words) and words[0] != "passk":
        words = [re.sub(r"(^\w+=[^,\[]+),.*", r"\1", word) for word in words]  # --cfg takes one job of a sweep
    flags = [] if "--cfg" in words else ["--cfg", "job"]
    done = ekipl(*words, *flags)
    assert done.returncode == 0, done.stderr
    assert f"command: {words[0].replace('-', '_')}" in done.stdout


def test_there_are_commands_to_check() -> None:
    assert {line.split()[1] for line in shown()} >= {"train", "eval", "passk", "rollout", "external-sample"}


def test_make_targets_exist() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for document in DOCUMENTS:
        for target in re.findall(r"^make (\w+)", (ROOT / document).read_text(), re.MULTILINE):
            assert re.search(rf"\b{target}\b", listed), target


def test_links_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert link.startswith("http") or (document.parent / link).exists(), f"{document.name}: {link}"
