"""What ``ekipl view`` reads and writes; tests/test_view_page.py looks at the page in a browser."""

from __future__ import annotations

import json
import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ekipl as ekipl_package
from benchmarks.view import write_run
from ekipl.algorithm.types import POLICY, Action, Group, Problem, Reward
from ekipl.errors import UsageError
from ekipl.files import read_jsonl
from ekipl.report.html import compare, encode, numbers
from ekipl.report.html.page import data_of, page
from ekipl.report.html.parts import Run, Shown
from ekipl.report.html.why import reasons
from ekipl.report.statement import Statement
from ekipl.run.records import Record, read_actions, records_of_group, write_actions
from ekipl.run.serving import Page
from ekipl.run.shown import images_of
from ekipl.run.thumbnails import statement_of
from ekipl.run.viewing import read_run, runs_at, view_data, write_view
from tests.command import ekipl

SMALL = {"problems": 3, "candidates": 6, "distinct": 6}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("view") / "made", 5, **SMALL)


def data_in(html: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data: dict[str, object] = json.loads(found[1])
    return data


def action(source: str, accuracy: float | None, text: str = "a", index: int = 0) -> Action:
    reward = None if accuracy is None else Reward(1.0, accuracy)
    return Action("p", source, index, text, "stop", (1, 2), None, reward)


def shown(*actions: Action, kept: tuple[bool, ...] = (), problem: str = "p", **said: str) -> Shown:
    known = kept or (None,) * len(actions)
    statement = Statement(said.get("question", "q"), said.get("answer", "1"), said.get("family"))
    return Shown(problem, "id", statement, actions, known, (None,) * len(actions))


def run_of(**fields: object) -> Run:
    base = {"name": "r", "command": "train", "folder": "r", "settings": {}, "image": lambda name: None}
    return Run(**(base | fields))  # type: ignore[arg-type]


# The files of a run.


def test_a_line_of_actions_says_what_the_problem_is(tmp_path: Path) -> None:
    said = Statement("How many?", "3", "count", ("images/a.webp",))
    problem = Problem("p", "counting", "train", (), "How many?", "prompt", "3", "number")
    group = Group(problem, (action(POLICY, 1.0),), (0,), (0.5,), {"too_long": 2})
    write_actions(tmp_path / "a.jsonl", records_of_group(group, {}, 0, said))
    row = read_jsonl(tmp_path / "a.jsonl")[0]
    assert {key: row[key] for key in ("question", "answer", "family", "images", "refused")} == {
        "question": "How many?",
        "answer": "3",
        "family": "count",
        "images": ["images/a.webp"],
        "refused": {"too_long": 2},
    }
    (record,) = read_actions(tmp_path / "a.jsonl")
    assert (record.statement, record.refused) == (said, {"too_long": 2})


def test_an_actions_file_of_before_is_read(tmp_path: Path) -> None:
    write_actions(tmp_path / "a.jsonl", [Record("counting", "id", action(POLICY, 1.0))])
    row = read_jsonl(tmp_path / "a.jsonl")[0]
    assert "question" not in row
    assert "refused" not in row
    assert read_actions(tmp_path / "a.jsonl")[0].statement is None


def test_a_drawn_image_is_copied_once_and_an_image_file_is_named(tmp_path: Path) -> None:
    drawn = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    from_file = drawn.copy()
    from_file.info["ekipl.path"] = "/data/images/a.png"
    problem = Problem("p", "t", "s", (drawn, from_file, drawn.copy()), "q", "p", "a", "number", {"family": "f"})
    said = statement_of(problem, tmp_path)
    assert said.images[1] == "/data/images/a.png"
    assert said.images[0] == said.images[2]
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.webp")] == [said.images[0]]
    assert said.family == "f"


def test_a_training_keeps_its_evaluations_and_writes_the_page(finished: Path) -> None:
    first = read_actions(finished / "evaluations" / "step-000000.jsonl")
    assert {record.split for record in first} == {"id", "ood"}
    assert all(record.statement and (finished / record.statement.images[0]).is_file() for record in first)
    row = read_jsonl(finished / "metrics.jsonl")[0]
    right = [record.action.reward.accuracy for record in first if record.split == "id" and record.action.reward]
    assert row["eval/id/accuracy"] == sum(right) / len(right)
    data = data_in((finished / "report.html").read_text())
    (run,) = data["runs"]  # type: ignore[misc]
    assert [step for step, _ in run["groups"]["steps"]] == [1, 2, 3, 4]
    assert all(problem[2] and problem[3] and problem[5] for problem in run["groups"]["problems"])
    assert all(image.startswith("data:image/webp;base64,") for image in run["groups"]["images"])


def test_a_page_that_cannot_be_written_is_one_line(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    from ekipl.run.viewing import write_page

    made = write_run(tmp_path / "r", 1, **SMALL)
    (made / "report.html").mkdir()
    write_page(OmegaConf.create({"report": {"html": True, "max_mb": 5}}), made)  # type: ignore[arg-type]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"ekipl train: {made / 'report.html'}: not written")


# What is read.


def test_every_group_is_in_the_page(made: Path) -> None:
    data, _, _ = view_data([made], 10**7)
    groups = data["runs"][0]["groups"]
    records = read_actions(made / "actions" / "step-000003.jsonl")
    step = next(found for number, found in groups["steps"] if number == 3)
    rows = [row for _, _, candidates in step for row in candidates]
    assert [groups["texts"][row[1]] for row in rows] == [record.action.text for record in records]
    assert [row[8] for row in rows] == [int(bool(record.kept)) for record in records]
    assert [row[2] for row in rows] == [record.action.total for record in records]


def test_a_step_after_the_last_of_the_metrics_is_left_out(made: Path, tmp_path: Path) -> None:
    """A run that was set back to a checkpoint still has the later files."""
    lines = (made / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    copied = tmp_path / "run"
    (copied / "actions").mkdir(parents=True)
    for file in (made / "config.yaml", *made.glob("actions/*")):
        (copied / file.relative_to(made)).write_bytes(file.read_bytes())
    (copied / "metrics.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])  # steps 0 to 2, and a torn row
    assert list(read_run(copied).steps) == [1, 2]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "no such folder"),
        ("file", "a file, not a run"),
        ("empty", "no run: it has no config.yaml (it is empty)"),
        ("run/model", "a model, not a run; its run may be"),
        ("run/checkpoints/step-1", "a checkpoint, not a run; its run is"),
    ],
)
def test_a_folder_that_is_no_run_says_what_it_is(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in ("empty", "run/model", "run/checkpoints/step-1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run/model/config.json").write_text("{}")
    done = ekipl("view", str(tmp_path / name))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ekipl view: {tmp_path / name}: {says}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the following arguments are required: RUN"),
        (["x", "--max-mb", "0"], "argument --max-mb: 0: not a size; give 1 to 1000"),
        (["x", "--port", "70000"], "argument --port: 70000: not a port; give 0 to 65535"),
        (["x", "B=3", "--grand"], "unrecognized arguments: --grand"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(words: list[str], says: str) -> None:
    done = ekipl("view", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"ekipl view: {says}; ekipl view --help\n"


def test_a_line_that_is_no_action_is_named(made: Path, tmp_path: Path) -> None:
    copied = write_run(tmp_path / "r", 2, **SMALL)
    file = copied / "actions" / "step-000002.jsonl"
    file.write_bytes(file.read_bytes() + b"{}\n")
    with pytest.raises(UsageError, match=r"step-000002\.jsonl:19: schema None"):  # 3 problems x 6 candidates before it
        write_view([copied], 10**7)


def test_an_image_outside_the_run_and_its_data_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "red").save(secret)
    made = write_run(tmp_path / "run", 1, **SMALL)
    (made / "images" / "link.png").symlink_to(secret)
    image = read_run(made).image
    assert [image(name) for name in (str(secret), "../secret.png", "images/link.png", "images/none.webp")] == [None] * 4
    inside = next((made / "images").glob("*.webp"))
    assert image(f"images/{inside.name}") == inside.read_bytes()


def test_a_large_image_of_the_data_is_scaled_down(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (800, 400), "red").save(data / "a.png")
    image = images_of(tmp_path, [data])(str(data / "a.png"))
    assert image is not None
    assert Image.open(BytesIO(image)).size == (512, 256)


@pytest.mark.slow
def test_runs_of_other_commands_are_shown(tmp_path: Path) -> None:
    few = ["limit=2", "splits=[id]", "decoding.max_tokens=16"]
    for name, words in {
        "eval": [*few, "models=[external]"],
        "passk": [*few, "--k", "1,2"],
        "rollout": ["limit=2", "splits=[id]", "samples=2", "rollout.max_tokens=16"],
        "external-sample": ["limit=2", "splits=[id]", "samples=2"],
    }.items():
        done = ekipl(name, *words, f"hydra.run.dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        done = ekipl("view", str(tmp_path / name))
        assert (done.returncode, done.stdout) == (0, f"{tmp_path / name / 'report.html'}\n"), done.stderr
        (run,) = data_in((tmp_path / name / "report.html").read_text())["runs"]  # type: ignore[misc]
        answers = dict(run["answers"]["points"])
        models = {"eval": ["tiny", "expert_a", "expert_b"], "external-sample": ["expert_a", "expert_b"]}
        assert [*answers] == models.get(name, ["tiny"])
        assert all(len(rows) == 2 for rows in answers.values())
        assert all(problem[2] and problem[3] and problem[5] for problem in run["answers"]["problems"]), name
        assert None not in run["answers"]["images"]
    assert data_in((tmp_path / "passk" / "report.html").read_text())["runs"][0]["passk"]["id"][0]["k"] == [1, 2]  # type: ignore[index]


def test_a_live_page_is_made_again_only_when_the_run_has_written(tmp_path: Path) -> None:
    made, clock = write_run(tmp_path / "r", 2, **SMALL), iter(range(0, 10_000, 10))
    shown_live = Page([made], 10**7, lambda: float(next(clock)))
    html, data, tag = shown_live.current()
    assert b"connect-src 'self'" in html
    assert shown_live.current() == (html, data, tag)
    lines = (made / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (made / "metrics.jsonl").write_bytes(b"".join(lines[:2]))
    for _ in range(9):  # the clock moves by 10 s each time it is read, and a page took 10 s: 5 times that is waited
        shown_live.current()
    assert [step for step, _ in json.loads(shown_live.current()[1])["runs"][0]["groups"]["steps"]] == [1]
    assert shown_live.current()[2] != tag


# In a notebook.


def test_a_run_is_loaded_as_data_frames(made: Path) -> None:
    run = ekipl_package.load(made)
    assert list(run.metrics["step"]) == [0, 1, 2, 3, 4, 5]
    assert len(run.actions) == 5 * 3 * 6
    records = read_actions(made / "actions" / "step-000002.jsonl")
    second = run.actions[run.actions["step"] == 2]
    assert list(second["text"]) == [record.action.text for record in records]
    assert list(second["reward"]) == [record.action.total for record in records]
    assert set(run.evaluations["split"]) == {"id", "ood"}


def test_without_pandas_the_message_says_what_to_install(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'ekipl[frames]'")):
        ekipl_package.load(made)


# What is worked out.


def test_why_an_action_was_kept() -> None:
    candidates = [action(POLICY, 1.0), action(POLICY, 0.0), action("a", 0.0), action("a", 0.0), action("b", None)]
    group = shown(*candidates, kept=(True, True, False, True, False))
    assert reasons(group, "top_g", drops=False) == [
        "reward above the last place (1)",
        "tie at 1: given a place",
        "tie at 1: not given a place",
        "tie at 1: given a place",
        "",
    ]
    own_and_better = shown(action(POLICY, 0.0), action("a", 1.0), action("a", 0.0), kept=(True, True, False))
    assert reasons(own_and_better, "beyond", drops=False) == [
        "own action",
        "better than every own action (1)",
        "not better than the best own action (1)",
    ]
    assert reasons(own_and_better, "my.rules:half", drops=False)[2] == "left out"
    assert reasons(own_and_better, "beyond", drops=True)[2].endswith("or dropped for an advantage below 0")


def test_a_difference_is_over_the_same_problems_only() -> None:
    first = [shown(action(POLICY, a), problem=f"p{i}") for i, a in enumerate((0.0, 0.0, 1.0, 1.0))]
    second = [shown(action(POLICY, a), problem=f"p{i}") for i, a in enumerate((1.0, 1.0, 1.0, 0.0))]
    other = shown(action(POLICY, 1.0), problem="p9")
    gain, problems = numbers.paired([*first, other], [*second, shown(action(POLICY, 0.0), problem="p9", question="?")])[
        "id"
    ]
    assert (gain.mean, problems) == (0.25, 4)  # (1 + 1 + 0 - 1) / 4; p9 asks something else
    assert gain.low < 0.25 < gain.high


def test_the_result_in_a_sentence() -> None:
    def row(step: int, accuracy: float) -> dict[str, float]:
        return {"step": step} | {f"eval/id/{key}": accuracy for key in ("accuracy", "accuracy_low", "accuracy_high")}

    points = {
        "step 0": lambda: [shown(action(POLICY, 0.0), problem=p) for p in "ab"],
        "step 9": lambda: [shown(action(POLICY, 1.0), problem="a"), shown(action(POLICY, 0.0), problem="b")],
    }
    run = run_of(rows=[row(0, 0.0), row(5, 0.75), row(9, 0.5)], points=points)
    text = numbers.sentence(run)
    assert text.startswith("Accuracy in distribution from 0.0 (0.0 to 0.0) to 50.0 (50.0 to 50.0) %, a change of +50.0")
    assert numbers.results(run)[0]["at"] == [0, 5, 9]  # the best is that of step 5
    assert numbers.sentence(run_of(rows=[{"step": 1, "loss/kl": 0.1}])) == ""


def test_metrics_of_many_steps_are_means_of_neighbours() -> None:
    rows = [{"step": n, "group/frac_zero_variance": float(n % 2), "x": float(n)} for n in range(1, 2501)]
    told = numbers.columns(rows)
    assert told["width"] == 3  # 2,500 / 1,000, rounded up
    assert told["step"][:2] == [3, 6]
    assert told["values"]["x"][0] == 2  # (1 + 2 + 3) / 3
    assert len(told["step"]) == 834


def test_evenly_spaced_items() -> None:
    assert encode.spaced(range(1, 11), 4) == [1, 4, 7, 10]
    assert encode.spaced(range(1, 11), 99) == list(range(1, 11))
    assert encode.spaced(range(1, 11), 1) == [10]


# The bound.


@pytest.mark.parametrize("room", [30_000, 60_000, 200_000])
def test_the_page_is_bounded_and_says_what_was_left_out(made: Path, room: int, tmp_path: Path) -> None:
    data, _, _ = view_data([made], 10**7)
    empty = len(page({**data, "runs": [{**data["runs"][0], "groups": None, "answers": None}]}))
    bounded, _, _ = view_data([made], empty + room)
    assert len(page(bounded)) <= empty + room
    kept = [number for number, _ in bounded["runs"][0]["groups"]["steps"]]
    if len(kept) < 5:
        assert any(f"groups of {len(kept)} evenly spaced steps of 5" in line for line in bounded["left_out"])
    assert kept[-1:] == [5]


def test_a_long_text_loses_its_middle() -> None:
    text = "a" * 50_000 + "<answer>3</answer>"
    short = encode.shortened(text)
    assert len(short) < 8_100
    assert short.endswith("<answer>3</answer>")
    assert "42,018 characters are left out here" in short  # 50,018 - 8,000


# Nothing gets out of its place.


def test_no_text_ends_the_script_element() -> None:
    hostile = "</script><script>alert(1)</script><!-- \u2028\u2029 & {{script}} {{policy}} \ud800"
    html = page(data_of([run_of(name=hostile, settings={hostile: hostile})], 10**7, hostile))
    assert html.count("<script") == 2
    assert html.count("</script>") == 2
    assert html.count("Content-Security-Policy") == 1
    assert not {"\u2028", "\u2029", "\ud800"} & set(html)
    assert data_in(html)["title"] == hostile


def test_the_policy_of_the_page_allows_its_own_script_and_nothing_else() -> None:
    html = page(data_of([run_of()], 10**7, "t"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert "connect-src" not in policy[1]
    assert re.findall(r"https?://[^\s\"']+", html) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert "innerHTML" not in html


# Several runs.


def test_two_runs_are_compared(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", 2, **SMALL)
    two = write_run(tmp_path / "two", 2, overrides=["beta=0.5", "method.name=mine"], **SMALL)
    data, runs, is_sweep = view_data([one, two], 10**7)
    assert ([run.name for run in runs], is_sweep) == (["ekipl", "mine"], False)
    settings = dict((row[0], row[1:]) for row in data["comparison"]["settings"])
    assert settings["beta"] == ["0.04", "0.5"]
    assert {row["split"]: row["problems"] for row in data["comparison"]["differences"]} == {"id": 6, "ood": 6}


def test_other_data_are_not_the_same_problems(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", 1, **SMALL)
    two = write_run(tmp_path / "two", 1, overrides=["data.seed=7"], **SMALL)
    data, _, _ = view_data([one, two], 10**7)
    assert data["comparison"]["differences"] == []


def test_runs_of_a_sweep_are_called_by_what_was_swept(tmp_path: Path) -> None:
    for place, (size, seed) in enumerate([(4, 0), (4, 1), (2, 0), (2, 1)]):
        run = write_run(tmp_path / str(place), 2, overrides=[f"seed={seed}"], **SMALL)
        (run / ".hydra").mkdir()
        (run / ".hydra" / "overrides.yaml").write_text(f"- G={size}\n- seed={seed}\n- M=2\n- hydra.x={place}\n")
    data, runs, is_sweep = view_data([tmp_path], 10**7)
    assert is_sweep
    assert [run.name for run in runs] == ["G=4 seed=0", "G=4 seed=1", "G=2 seed=0", "G=2 seed=1"]
    assert [row["swept"] for row in data["sweep"]][3] == {"G": "2", "seed": "1"}
    write_view([tmp_path], 10**7)
    header, *rows = (tmp_path / "sweep.csv").read_text().splitlines()
    assert header.startswith("run,G,seed,id last,id last low,id last high")
    assert len(rows) == 4
    assert rows[0].startswith("G=4 seed=0,4,0,0.")


def test_a_cell_that_a_spreadsheet_would_run_is_text() -> None:
    text = compare.sweep_csv([run_of(name="=HYPERLINK(1)", swept={"lr": "-1e-3", "x": "@a"})])
    assert text.splitlines()[1].startswith("'=HYPERLINK(1),-1e-3,'@a")


def test_a_folder_beside_runs_is_refused(made: Path) -> None:
    with pytest.raises(UsageError, match="a folder of runs; give it alone"):
        runs_at([made, made.parent])
