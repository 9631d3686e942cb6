"""The command line as users type it, in this process but for the three tests that need one of their own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from omegaconf import DictConfig

from ekipl.cli import COMMANDS, PLAIN, ordered, spelled_out
from ekipl.config import check
from ekipl.errors import UsageError
from tests.command import Done, ekipl

ROOT = Path(__file__).parents[1]
NAMES = ", ".join(COMMANDS | PLAIN)
HEAVY = {"torch", "transformers", "deepspeed", "litellm", "datasets"}


def typed(line: str, cwd: Path, **env: str) -> Done:
    """``ekipl`` with the words of ``line``, in the folder ``cwd``."""
    return ekipl(*shlex.split(line), cwd=cwd, **env)


def process(line: str, cwd: Path, **env: str) -> tuple[Done, set[str]]:
    """The same by a new process, and the packages that it has imported when it ends."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, file=open('imported', 'w')))\n"
        "from ekipl.cli import main\n"
        "main()"
    )
    command = [sys.executable, "-c", program, *shlex.split(line)]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=300)
    imported = (cwd / "imported").read_text().split()
    (cwd / "imported").unlink()
    return Done(done.returncode, done.stdout, done.stderr), {name.partition(".")[0] for name in imported}


def probe(cfg: DictConfig) -> None:
    """A job that prints its settings."""
    check(cfg, cfg.command)
    if cfg.seed == 13:
        raise UsageError("seed: 13: unlucky; choose another")
    if cfg.seed == 15:
        sys.exit(3)  # as training does when its processes fail
    if cfg.seed == 17:
        raise ValueError("a bug")
    print("job", cfg.command, cfg.task._target_.rpartition(".")[2], cfg.G, cfg.M, cfg.get("passk", {}).get("k"))


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real command line, with ``probe`` as every command."""
    for name in ("train", "eval", "passk", "external_sample"):
        module = types.ModuleType(f"ekipl.commands.{name}")
        module.run = probe  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_process_that_helps_imports_nothing_heavy(tmp_path: Path) -> None:
    done, imported = process("--help", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"  {name} " in done.stdout for name in COMMANDS | PLAIN)
    assert imported & {*HEAVY, "hydra", "numpy", "pydantic"} == set()


def test_a_process_that_refuses_ends_with_2_in_one_line_and_imports_no_model(tmp_path: Path) -> None:
    done, imported = process("train N=0", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "N: 0: too small; must be 1 or more\n")
    assert list(tmp_path.iterdir()) == []
    assert imported & HEAVY == set()


def test_version_and_bare_call(tmp_path: Path) -> None:
    assert re.fullmatch(r"ekipl \d+\.\d+\.\d+\S*\n", typed("--version", cwd=tmp_path).stdout)
    assert typed("", cwd=tmp_path).stdout == typed("--help", cwd=tmp_path).stdout


def test_an_unknown_command_is_refused_in_one_line(tmp_path: Path) -> None:
    done = typed("trian N=1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"ekipl: trian: no such command; the commands are {NAMES}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, tmp_path: Path) -> None:
    done = typed(f"{command} --help", cwd=tmp_path)
    assert (done.returncode, done.stderr, files(tmp_path)) == (0, "", [])
    assert done.stdout.startswith(f"usage: ekipl {command} ")
    assert "task: counting, custom, spatial, structure, vqa" in done.stdout
    example = re.search(rf"^example: ekipl {command} (.+)$", done.stdout, re.MULTILINE)
    assert example is not None
    assert typed(f"{command} {example[1]} --cfg job", cwd=tmp_path).returncode == 0


def test_show_the_settings_without_running(tmp_path: Path) -> None:
    done = typed("train task=spatial model=qwen2vl_7b --cfg job", cwd=tmp_path)
    assert (done.returncode, done.stderr, files(tmp_path)) == (0, "", [])
    assert "_target_: ekipl.tasks.spatial.Spatial" in done.stdout
    assert "path: Qwen/Qwen2-VL-7B-Instruct" in done.stdout


@pytest.mark.usefixtures("probes")
def test_a_sweep_runs_every_combination(tmp_path: Path) -> None:
    done = typed("train --multirun G=8,16 M=0,1,2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = [line for line in done.stdout.splitlines() if line.startswith("job")]
    assert jobs == [f"job train Counting {g} {m} None" for g in (8, 16) for m in (0, 1, 2)]
    overrides = [path.read_text() for path in sorted(tmp_path.glob("runs/train/*/*/.hydra/overrides.yaml"))]
    assert overrides == [f"- G={g}\n- M={m}\n" for g in (8, 16) for m in (0, 1, 2)]


@pytest.mark.usefixtures("probes")
def test_overrides_may_stand_before_and_after_flags(tmp_path: Path) -> None:
    done = typed("eval task=counting,structure,spatial -m G=4", cwd=tmp_path)
    jobs = [line for line in done.stdout.splitlines() if line.startswith("job")]
    assert jobs == [f"job eval {task} 4 2 None" for task in ("Counting", "Structure", "Spatial")]


@pytest.mark.usefixtures("probes")
def test_a_flag_is_a_spelling_of_an_override(tmp_path: Path) -> None:
    done = typed("passk --k 1,8,64 N=4", cwd=tmp_path)
    assert done.stdout == "job passk Counting 16 2 [1, 8, 64]\n"
    [overrides] = tmp_path.glob("runs/passk/*/.hydra/overrides.yaml")
    assert sorted(overrides.read_text().splitlines()) == ["- N=4", "- passk.k=[1,8,64]"]
    assert typed("passk --k", cwd=tmp_path).returncode == 2


def test_words_are_reordered_and_spelled_out_without_other_change() -> None:
    words = shlex.split("a=1 --multirun b=2 -m ~c --cfg job +d=3")
    assert " ".join(ordered(words)) == "--multirun -m --cfg job a=1 b=2 ~c +d=3"
    assert spelled_out("passk", ["--k=1,2", "N=1", "--cfg", "job"]) == ["N=1", "--cfg", "job", "passk.k=[1,2]"]
    assert spelled_out("train", ["--k", "1"]) == ["--k", "1"]  # for Hydra to refuse


@pytest.mark.usefixtures("probes")
def test_runs_in_the_same_moment_have_folders_of_their_own(tmp_path: Path) -> None:
    for _ in range(2):
        assert typed("passk", cwd=tmp_path).returncode == 0
    folders = list(tmp_path.glob("runs/passk/*"))
    assert len(folders) == 2
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", folder.name) for folder in folders)


@pytest.mark.usefixtures("probes")
def test_the_command_with_a_hyphen_runs(tmp_path: Path) -> None:
    done = typed("external-sample", cwd=tmp_path)
    assert done.stdout == "job external_sample Counting 16 2 None\n"
    assert len(list(tmp_path.glob("runs/external_sample/*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("task=chess", "ekipl train: task=chess: no such option; known are counting, custom, spatial, structure, vqa"),
        ("rollout.max_token=3", "ekipl train: rollout.max_token: no such setting; did you mean rollout.max_tokens?"),
        ("objective.beta=0", "ekipl train: objective.beta: no such setting; did you mean beta?"),
        ("zero_stage=3", "ekipl train: zero_stage: no such setting; did you mean engine.zero_stage?"),
        ("task.board=1", "ekipl train: task.board: new here; put a + before it: +task.board=VALUE"),
        ("g=8", "ekipl train: g: no such setting; did you mean G?"),
        ("N=[1", "ekipl train: N=[1: not to be read as key=value; close the brackets, "
            "and quote what has special characters in it"),
        ("'model.path=my é/run'", "ekipl train: model.path=my é/run: not to be read as key=value; "
            "write 'model.path=\"my é/run\"'"),
        ("8", "ekipl train: 8: not to be read as key=value; write 8=VALUE"),
        ("decoding=greedy", "ekipl train: decoding: not a group of train; leave it out"),
        ("external.models.7.name=x", "ekipl train: external.models.7.name=x: no such entry in the list; count from 0"),
        ("hydra.run.dir=/dev/null/x",
            "ekipl train: /dev/null/x: Not a directory; hydra.run.dir=FOLDER writes elsewhere"),
        ("N=0", "N: 0: too small; must be 1 or more"),
        ("N=0 eps=0", "N: 0: too small; must be 1 or more\neps: 0: too small; must be above 0"),
        ("--resolve", "ekipl train: The --resolve flag can only be used in conjunction with --cfg or --help"),
        ("--config-dir /no/such", "ekipl train: Additional config directory '/no/such' not found"),
    ],
)  # fmt: skip
def test_refused_settings_end_in_one_line_without_trace_and_leave_nothing(
    arguments: str, line: str, tmp_path: Path
) -> None:
    done = typed(f"train {arguments}", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line + "\n")
    assert list(tmp_path.iterdir()) == []


def test_broken_yaml_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("a: [1\nb: 2\n")
    done = typed("train --config-dir . experiment=mine", cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"ekipl train: .*mine\.yaml.*\n", done.stderr)


def test_a_trace_is_shown_on_demand(tmp_path: Path) -> None:
    done = typed("train task=chess", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.usefixtures("probes")
def test_a_refusal_by_a_job_ends_in_its_text(tmp_path: Path) -> None:
    done = typed("train seed=13", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "seed: 13: unlucky; choose another\n")
    assert all("/.hydra/" in name for name in files(tmp_path))


@pytest.mark.usefixtures("probes")
def test_a_sweep_goes_on_after_a_refusal_and_ends_with_2(tmp_path: Path) -> None:
    done = typed("train -m seed=12,13,14", cwd=tmp_path)
    assert done.returncode == 2
    assert sum(line.startswith("job") for line in done.stdout.splitlines()) == 2
    assert "seed: 13: unlucky; choose another\n" in done.stderr
    assert "Traceback" not in done.stderr
    done = typed("train -m N=0,1", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("N: 0: too small; must be 1 or more")) == (2, 1)


@pytest.mark.usefixtures("probes")
def test_the_exit_code_of_a_job_is_that_of_the_run(tmp_path: Path) -> None:
    assert typed("train seed=15", cwd=tmp_path).returncode == 3
    done = typed("train -m seed=14,15,16", cwd=tmp_path)
    assert (done.returncode, done.stdout.count("job train")) == (3, 2)
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("probes")
@pytest.mark.parametrize("flag", ["", "-m"])
def test_a_bug_keeps_its_trace(flag: str, tmp_path: Path) -> None:
    done = typed(f"train seed=17 {flag}", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.rstrip().endswith("ValueError: a bug")


def test_ranks_do_not_compose(tmp_path: Path) -> None:
    done = typed("train", cwd=tmp_path, RANK="3")
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert done.stderr.startswith("RANK: 3: ")


def test_unknown_flags_are_refused(tmp_path: Path) -> None:
    done = typed("train --k 1", cwd=tmp_path)
    assert done.returncode == 2
    assert "unrecognized arguments: --k" in done.stderr


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ekipl ", set(COMMANDS | PLAIN)),
        ("ekipl ev", set(COMMANDS | PLAIN)),  # the shell narrows it down
        ("ekipl train task=", {"task=counting", "task=custom", "task=spatial", "task=structure", "task=vqa"}),
        (
            "ekipl train N=1 model=qwen2",
            {"model=qwen2vl_2b", "model=qwen2vl_7b", "model=qwen25vl_3b", "model=qwen25vl_7b"},
        ),
        ("ekipl passk passk.s", {"passk.samples="}),
        ("ekipl nope x", set()),
    ],
)
def test_completion(line: str, offered: set[str], tmp_path: Path) -> None:
    done = typed("-sc query=bash", cwd=tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert set(done.stdout.split()) == offered
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="completion of bash")
def test_completion_in_bash(tmp_path: Path) -> None:
    script = tmp_path / "ekipl"
    script.write_text(f"#!{sys.executable}\nfrom ekipl.cli import main\nmain()\n")
    script.chmod(0o755)
    program = (
        'eval "$(ekipl -sc install=bash)"; complete -p ekipl >/dev/null || exit 3\n'
        'COMP_LINE="ekipl train task=s"; COMP_POINT=18; COMP_CWORD=2; hydra_bash_completion; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", program], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "task=spatial task=structure\n", done.stderr


@pytest.mark.slow
def test_the_wheel_holds_what_the_checkout_has(tmp_path: Path) -> None:
    """Built and installed elsewhere, it composes from its own config tree and has the built-in model."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = tmp_path / "source"
    for name in ("ekipl", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, timeout=300)
    [wheel] = tmp_path.glob("ekipl-*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True, timeout=300
    )

    assert files(site / "ekipl" / "conf") == files(ROOT / "conf")
    for data in ("report/published.json", "policy/published.json"):
        assert (site / "ekipl" / data).is_file()
    checkpoint = files(site / "ekipl" / "tiny" / "checkpoint")
    assert "config.json" in checkpoint
    assert checkpoint == files(ROOT / "ekipl" / "tiny" / "checkpoint")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done, _ = process("train --info searchpath", elsewhere, PYTHONPATH=str(site))
    assert f"{site}/ekipl/conf" in done.stdout
    done, _ = process("train --cfg job", elsewhere, PYTHONPATH=str(site))
    assert done.stdout.startswith("'N': 8")
