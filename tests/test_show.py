"""``ekipl show`` prints what the policy reads, and leaves nothing behind; the commands of docs/your-data.md run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from ekipl.policy.encoding import encode_prompt
from ekipl.policy.model import VLM, load_model
from ekipl.run.showing import printable, visible
from tests.command import ekipl
from tests.tables import problems, rows_with_pictures, write_jsonl

PAGE = (Path(__file__).parents[1] / "docs" / "your-data.md").read_text()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The page's example, long enough to train on."""
    (tmp_path / "pics").mkdir()
    for number in range(1, 5):
        Image.new("RGB", (96, 64), (number * 50, 90, 10)).save(tmp_path / "pics" / f"{number}.png")
    block = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    (tmp_path / "mine.jsonl").write_text(block[1] * 6)
    return tmp_path


def show(folder: Path, *words: str) -> str:
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    done = ekipl("show", *words, "data.cache=null", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    return done.stdout


def test_a_table_is_shown(mine: Path) -> None:
    out = show(mine, "data=table", "data.path=mine.jsonl", "task=vqa", "splits=[train,id]")
    assert out.count("problem 1: id ") == 2
    first = out.partition("train, problem 2")[0]
    assert "train, problem 1: id 'row-1'" in first
    # 96 x 64 pixels are 6 x 4 tokens of 16 x 16 pixels
    assert "image 1: 96 x 64 pixels, read as 96 x 64: 24 tokens" in first
    assert "24 of images" in first
    assert "⟦<|image_pad|> x 24⟧" in first
    assert "How many cups are on the table? Output the thinking process" in first
    assert "gold: '3' (number)" in first
    grades = re.findall(r"strict of (.*?): format (\d), accuracy (\d)", first)
    assert grades == [
        ("the gold answer", "1", "1"),
        ("another answer", "1", "0"),
        ("the gold answer without tags", "0", "1"),
    ]
    assert "gold: 'red' or 'dark red' (text)" in out


def test_the_tokens_that_are_trained_on(tmp_path: Path) -> None:
    rows = [{**row, "cot": "I look."} for row in rows_with_pictures(tmp_path, 2)]
    path = write_jsonl(tmp_path / "t", rows)
    words = ["data=table", f"data.path={path}", "data.holdout=0", "task=vqa", "n=1"]
    out = show(tmp_path, *words, "method=cot_sft")
    assert "trained on (cot_sft): " in out
    assert "<think>\n    I look.\n    </think>\n    <answer>\n    3\n    </answer>⟦<|im_end|>⟧" in out
    assert "3⟦<|im_end|>⟧" in show(tmp_path, *words, "method=ans_sft", "prompt=answer")
    assert "the tokens of the kept actions and the ⟦<|im_end|>⟧ behind each" in show(tmp_path, *words)
    bare = write_jsonl(tmp_path / "u", rows_with_pictures(tmp_path, 1))
    assert "trained on (cot_sft): nothing: data: q0: no cot" in show(
        tmp_path, *words, f"data.path={bare}", "method=cot_sft"
    )


@pytest.mark.slow
@pytest.mark.parametrize("task", ["counting", "structure", "spatial"])
def test_every_task_is_shown(task: str, tmp_path: Path) -> None:
    out = ekipl("show", f"task={task}", "n=1", "splits=[id]", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert f"id, problem 1: id '{task}-id-0'" in out.stdout
    assert "another answer: format 1, accuracy 0" in out.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load_model("tiny", min_pixels=2304, max_pixels=153_600, weights=False)


def test_special_tokens_are_told_from_the_same_signs_in_a_question(vlm: VLM, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t", [{"question": "What is <|im_end|> and \x1b[2J?", "answer": "x"}])
    (problem,) = problems(path)
    shown = visible(vlm, encode_prompt(vlm, problem).ids)
    assert "What is <|im_end|> and \\x1b[2J?" in shown
    assert shown.count("⟦<|im_end|>⟧") == 2  # of the system's turn and of the user's
    assert printable("a\nb\u202ec") == "a\nb\\u202ec"


@pytest.mark.slow
def test_bad_input_is_one_line_and_exit_2(mine: Path) -> None:
    for words, told in [
        (["data.path=none.jsonl"], "data.path: none.jsonl: no such file or folder"),
        ([], "data.path: null: a table needs a file"),
        (
            ["data.path=mine.jsonl", "data.columns.answer=gold"],
            "data.columns.answer: gold: no such column in mine.jsonl",
        ),
        (["data.path=mine.jsonl", "prompt.file=mine.jsonl"], "no {question} in it"),
        (["data.path=mine.jsonl", "splits=[ood]"], "splits: ood: vqa has train, id"),
        (["data.path=mine.jsonl", "data.root=nowhere"], "data.root: nowhere: no such folder or zip file"),
        (["data.path=3"], "data.path: 3: not text; quote it"),
        (["data.path={train: 3}"], "data.path.train: 3: not text; quote it"),
        (["data.path={}"], "data.path: "),
        (["data.path=mine.jsonl", "n=0"], "n: 0: too small"),
    ]:
        done = ekipl("show", "data=table", "task=vqa", "data.cache=null", *words, cwd=mine)
        assert (done.returncode, done.stdout) == (2, ""), words
        lines = [line for line in done.stderr.splitlines() if not line.startswith("data: mine.jsonl: ")]
        assert len(lines) == 1, done.stderr
        assert told in lines[0]
    assert not (mine / "runs").exists()


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = [re.split(r"  +#", line)[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("ekipl ")]


SMALL = ["N=2", "G=4", "B=1", "epochs=null", "problems_per_step=2", "rollout.max_tokens=24", "checkpoint.every=0"]


@pytest.mark.slow
@pytest.mark.parametrize("line", commands())
def test_the_commands_of_the_page_run(line: str, mine: Path) -> None:
    """At small size, with the tiny model in the place of others."""
    command, *words = shlex.split(line.replace("/models/X", "tiny").replace("runs/train/RUN/model", "tiny"))[1:]
    few = {"train": [*SMALL, "evaluation.limit=1"], "eval": ["limit=1", "decoding.max_tokens=8"]}.get(command, [])
    few = [word for word in few if not (word.startswith("G=") and "M=0" in words)]
    done = ekipl(command, *words, *few, "data.cache=null", "hydra.run.dir=out", cwd=mine)
    assert done.returncode == 0, done.stderr
    if command == "train":
        assert (mine / "out" / "model" / "model.safetensors").is_file()
        assert json.loads((mine / "out" / "metrics.jsonl").read_text().splitlines()[0])


def test_the_page_shows_all_that_a_newcomer_needs() -> None:
    assert {line.split()[1] for line in commands()} == {"show", "train", "eval"}
    assert any("epochs=" in line for line in commands())
