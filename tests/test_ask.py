"""``ekipl ask``: one question, to the policy token by token and to models behind a real HTTP server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ekipl.algorithm.seams import Decoding
from ekipl.algorithm.types import Problem
from ekipl.cli import conf_dir
from ekipl.commands.ask import as_settings, quoted
from ekipl.config import check
from ekipl.data.synthetic.source import SyntheticData
from ekipl.errors import UsageError
from ekipl.policy.generate import GenerateSampler
from ekipl.policy.hf import HFSampler
from ekipl.policy.model import TINY, load_model
from ekipl.policy.streaming import Text
from ekipl.tasks.counting import Counting
from tests.command import Done, ekipl
from tests.families import EVALUATED, save
from tests.openai_server import OpenAIServer, Reply

needs_tiny = pytest.mark.skipif(not TINY.exists(), reason="the tiny checkpoint is not built")


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    names = ["red.png", "blue.jpg"]
    for name, colour in zip(names, ("red", "blue"), strict=True):
        Image.new("RGB", (56, 56), colour).save(tmp_path / name)
    return names


def parts_of_text(decode: Any, tokens: list[int], whole: str) -> list[str]:
    parts: list[str] = []
    text = Text(decode, {0}, parts.append)
    for token in tokens:
        text.add(token)
    text.finish(whole)
    return parts


def test_a_character_of_several_tokens_is_told_when_it_is_whole() -> None:
    def decode(ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    whole = "a\N{BIRD}é!"
    assert parts_of_text(decode, [*whole.encode(), 0], whole) == ["a", "\N{BIRD}", "é", "!"]
    cut = "a\N{BIRD}".encode()[:3]
    assert parts_of_text(decode, list(cut), decode(list(cut))) == ["a", "\ufffd"]  # the answer ends in half a bird


@needs_tiny
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_parts_of_the_policys_answer_are_its_sample(temperature: float) -> None:
    image = Image.new("RGB", (56, 56), "red")
    problem = Problem("p", "counting", "id", (image,), "How many?", "How many?", "", "number")
    sampler = HFSampler(load_model("tiny"), Decoding(temperature, 1.0, 0, 12))
    parts: list[str] = []
    action = sampler.stream(problem, 3, parts.append)
    [[first, _]] = sampler.sample([problem], 2, 3)
    assert action.tokens == first.tokens
    assert "".join(parts) == action.text == first.text
    assert len(parts) > 4


def test_so_are_those_of_a_model_that_is_only_evaluated(tmp_path: Path) -> None:
    sampler = GenerateSampler(
        str(save(EVALUATED["llava"](), tmp_path / "m")), Decoding(1.0, 1.0, 0, 9), dtype="float32"
    )
    problem = Problem("p", "counting", "id", (Image.new("RGB", (28, 28)),), "How many?", "How many?", "", "number")
    parts: list[str] = []
    action = sampler.stream(problem, 3, parts.append)
    assert action == sampler.sample([problem], 1, 3)[0][0]
    assert "".join(parts) == action.text
    assert len(parts) > 1


@pytest.mark.parametrize(
    ("words", "question", "rest"),
    [
        (["What is it?"], "What is it?", []),
        (["x=3?"], "x=3?", []),
        (["If y=2x, what is y?", "model.path=tiny"], "If y=2x, what is y?", ["model.path=tiny"]),
        (["y=2x", "decoding.temperature=1"], "y=2x", ["decoding.temperature=1"]),
        (["B=5, what is A?"], "B=5, what is A?", []),  # B is a setting, too
        (["seed=1", "How many?"], "How many?", ["seed=1"]),
        (["How many?", "modle.path=x"], "How many?", ["modle.path=x"]),  # Hydra says that there is no such setting
        (["--cfg", "job", "How many?"], "How many?", ["--cfg", "job"]),
        (["- is it red?", "-m"], "- is it red?", ["-m"]),
        (["How many?", "task=spatial"], "How many?", ["prompt=cot", "task=spatial"]),
        (["How many?", "task=spatial", "prompt=answer"], "How many?", ["task=spatial", "prompt=answer"]),
        (["How many?", "+task.board=8", "~hydra"], "How many?", ["+task.board=8", "~hydra"]),
    ],
)
def test_the_question_is_the_word_that_sets_nothing(words: list[str], question: str, rest: list[str]) -> None:
    assert as_settings(words) == [f"question={quoted(question)}", *rest]


def test_images_are_files_or_named_like_pictures(pictures: list[str], tmp_path: Path) -> None:
    (tmp_path / "no_suffix").touch()
    words = [str(tmp_path / pictures[0]), "gone.JPEG", str(tmp_path / "no_suffix"), "How many?"]
    assert as_settings(words)[1] == f"images=[{','.join(map(quoted, words[:3]))}]"
    assert as_settings(["a.png"]) == ['images=["a.png"]']


@settings(max_examples=60)
@given(st.text(st.sampled_from("\\\"'${}[],:=#?é\n\t ab") | st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_text_is_a_question_word_for_word(text: str) -> None:
    if text in ("", "???"):  # OmegaConf's word for a missing value
        return
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose("ask", overrides=[f"question={quoted(text)}", f"images=[{quoted(text)}]"])
    found = check(cfg, "ask")
    assert (found.question, found.images) == (text, (text,))


def test_two_questions_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^ekipl ask: 'How', 'many\?': one question is asked; write it in quotes"):
        as_settings(["red.png", "How", "many?"])


def asked(*words: str, cwd: Path, **environment: str) -> Done:
    """The command, which leaves nothing behind."""
    before = sorted(cwd.rglob("*"))
    done = ekipl("ask", *words, cwd=cwd, **environment)
    assert sorted(cwd.rglob("*")) == before
    return done


@needs_tiny
def test_the_policy_answers_in_the_form_of_the_task(tmp_path: Path) -> None:
    [scene] = SyntheticData().problems(Counting(), "id", 1)
    scene.images[0].save(tmp_path / "scene.png")
    words = ["scene.png", "How many cylinders are there?", "task=counting", "decoding.max_tokens=96"]
    done = asked(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("<think>")
    assert done.stdout.endswith("</answer>\n")
    cut = asked(*words[:-1], "decoding.max_tokens=4", cwd=tmp_path)
    assert done.stdout.startswith(cut.stdout.rstrip("\n"))
    assert cut.stderr == "ekipl: cut off at decoding.max_tokens=4; a larger one lets it go on\n"


@needs_tiny
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["gone.png", "What?"], "images.0: gone.png: cannot be read: No such file or directory; name a file of PNG"),
        (["red.png", "text.txt", "What?"], "images.1: text.txt: cannot be read: no PNG, JPEG, WEBP, BMP, GIF file"),
        ([".", "What?"], "images.0: .: cannot be read: Is a directory"),
        (["thin.png", "What?"], "image: 600 x 2 pixels: "),
        (["red.png"], "question: missing; write it in quotes: ekipl ask"),
        (["red.png", "  "], "question: missing; write it in quotes: ekipl ask"),
        (["red.png", "What?", "model.path=./nowhere"], "model.path: ./nowhere: no such folder"),
        (["red.png", "What?", "model.path=external"], "external.kind: simulated: answers problems of the data only"),
        (["red.png", "What?", "decoding.temperature=-1"], "decoding.temperature: -1: too small"),
        (["red.png", "What?", "data.train_size=3"], "data.train_size: 3: ask reads no data and grades nothing"),
        (["red.png", "What?", "rollout.top_k=3"], "rollout.top_k: 3: ask samples as decoding.* says"),
    ],
)
def test_refusals_are_one_line(words: list[str], line: str, pictures: list[str], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("no picture")
    Image.new("RGB", (600, 2)).save(tmp_path / "thin.png")
    done = asked(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(line)


def served(server: OpenAIServer, *more: str) -> list[str]:
    return [
        "model=gpt4o",
        *(f"external.models.0.{key}" for key in (f"api_base={server.url}", "api_key_env=TEST_KEY")),
        "external.models.0.samples=5",
        "external.cache=null",
        *more,
    ]


def test_an_external_model_gets_the_images_and_the_bare_question(pictures: list[str], tmp_path: Path) -> None:
    question = 'Is <image> or <image> "red"? ${HOME} = \\n'
    with OpenAIServer(lambda request: Reply(text="The first.\x1b[31m é")) as server:
        done = asked(*pictures, question, *served(server), cwd=tmp_path, TEST_KEY="sk-test-4f9a8b7c6d5e")
        assert (done.returncode, done.stdout) == (0, "The first.\\x1b[31m é\n"), done.stderr
        [request] = server.requests  # one sample, not the five of the settings
    assert [part["type"] for part in request.parts] == ["text", "image_url", "text", "image_url", "text"]
    assert request.prompt == question.replace("<image>", "")
    assert (request.body["temperature"], request.body["max_tokens"]) == (0.2, 8192)


def test_without_an_image_and_in_the_form_of_a_task(tmp_path: Path) -> None:
    with OpenAIServer(lambda request: Reply(text="A", finish="length")) as server:
        words = ["Which is larger?\nA. 1\nB. 2", "task=structure", *served(server)]
        done = asked(*words, cwd=tmp_path, TEST_KEY="sk-test-4f9a8b7c6d5e")
    assert (done.returncode, done.stdout) == (0, "A\n"), done.stderr
    assert "gpt4o: cut off at its limit of tokens" in done.stderr
    assert server.requests[0].images == []
    assert "(chosen letter) in <answer> </answer> tags" in server.requests[0].prompt


def test_a_refused_key_ends_in_one_line_without_it(tmp_path: Path) -> None:
    key = "sk-test-4f9a8b7c6d5e"
    with OpenAIServer(lambda request: Reply(status=401, error={"message": f"bad key {key}"})) as server:
        done = asked("What?", *served(server), cwd=tmp_path, TEST_KEY=key)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("external.models.0")
    assert key not in done.stderr
    assert "Traceback" not in done.stderr
