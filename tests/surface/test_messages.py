"""The one file of messages: what its helper holds, and that no entry is left over."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests import messages


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot of this test's own, with one entry."""
    path = tmp_path / "messages.txt"
    path.write_text(
        f"{messages.HEAD}\n[a/lost]\n  {{file}} is lost at step {{step}}; {{tmp}} is left, by process {{~pid}}.\n"
    )
    monkeypatch.setattr(messages, "SNAPSHOT", path)
    monkeypatch.delenv(messages.ACCEPT, raising=False)
    return path


def test_every_entry_is_used() -> None:
    used = {
        node.value
        for path in Path(messages.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(messages.entries()) - used == set(), "delete these from tests/surface/messages.txt"


def test_every_key_has_an_entry() -> None:
    calls = {"raises", "said", "says", "is_said", "times_said", "unsaid"}
    named = {
        argument.value
        for path in Path(messages.__file__).parent.rglob("test_*.py")
        if path != Path(__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in calls
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "messages"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and "/" in argument.value
    }
    assert named
    assert named - set(messages.entries()) == set(), "OUTLAST_ACCEPT=1 writes these"


def test_a_second_entry_with_the_same_key_is_refused(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = f"{messages.HEAD}\n[a/lost]\n  one text\n\n[a/kept]\n  x\n\n[a/lost]\n  one text\n"
    snapshot.write_text(before)
    with pytest.raises(AssertionError, match=r"^messages\.txt:9: .* a/lost;"):
        messages.entries()
    monkeypatch.setenv(messages.ACCEPT, "1")
    with pytest.raises(AssertionError, match="a/lost"):
        messages.said("another text", "a/kept")
    assert snapshot.read_text() == before


def test_an_error_is_held_by_type_facts_and_text(snapshot: Path, tmp_path: Path) -> None:
    sentence = f"a.bin is lost at step 3; {tmp_path} is left, by process 41."
    with messages.raises(ValueError, "a/lost", file="a.bin", step=3) as caught:
        raise ValueError(sentence)
    assert str(caught.value) == sentence
    for wrong in (sentence.replace("3", "30"), sentence.replace("lost", "gone"), sentence + " More.", "x " + sentence):
        with (
            pytest.raises(AssertionError, match="a/lost is not said"),
            messages.raises(ValueError, "a/lost", file="a.bin", step=3),
        ):
            raise ValueError(wrong)
    with pytest.raises(TypeError), messages.raises(ValueError, "a/lost", file="a.bin", step=3):
        raise TypeError(sentence)
    for facts in ({"step": 3}, {"file": "a.bin", "step": 3, "process": 41}):
        with pytest.raises(AssertionError, match="has the facts"), messages.raises(ValueError, "a/lost", **facts):
            raise ValueError(sentence)


def test_a_fact_is_held_literally_and_not_only_below_the_folder_of_the_test(tmp_path: Path, snapshot: Path) -> None:
    snapshot.write_text(f"{messages.HEAD}\n[a/lost]\n  {{file}} is lost\n")
    messages.said(f"{tmp_path}/x is lost", "a/lost", file=tmp_path / "x")
    assert not messages.is_said(f"{tmp_path.parent}/another/x is lost", "a/lost", file=tmp_path / "x")


def test_lines_of_a_text_and_sentences_are_found_whole(snapshot: Path, tmp_path: Path) -> None:
    sentence = f"a.bin is lost at step 3; {tmp_path} is left, by process 41."
    facts = {"file": "a.bin", "step": 3}
    messages.said(f"before\n{sentence}\nafter\n{sentence}\n", "a/lost", **facts)
    messages.said(["before", sentence], messages.says("a/lost", file="a.bin"), step=3)
    assert messages.times_said(f"before\n{sentence}\nafter\n{sentence}\n", "a/lost", **facts) == 2
    for wrong in (f"before {sentence}", [f"before\n{sentence}"], "", []):
        assert not messages.is_said(wrong, "a/lost", **facts)
        with pytest.raises(AssertionError, match="a/lost is not said"):
            messages.said(wrong, "a/lost", **facts)
    messages.unsaid("before", "a/lost")
    with pytest.raises(AssertionError, match="a/lost was said"):
        messages.unsaid(sentence, "a/lost")


def test_a_reworded_message_is_accepted_and_a_missing_fact_is_not(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = f"Step 3 of {tmp_path} has lost its a.bin (process 7, 13 of them, {{}})."
    with pytest.raises(AssertionError, match="a/new is not in messages.txt; OUTLAST_ACCEPT=1 writes it"):
        messages.said([sentence], "a/new", file="a.bin", step=3)
    monkeypatch.setenv(messages.ACCEPT, "1")
    for key in ("a/lost", "a/new"):
        messages.said(["Step 3 of nothing", sentence], key, file="a.bin", step=3)
        with pytest.raises(AssertionError, match="no line has all of the facts"):
            messages.said([sentence], key, file="a.bin", step=4)
    monkeypatch.delenv(messages.ACCEPT)
    assert messages.entries() == {
        "a/lost": "Step {step} of {tmp} has lost its {file} (process {~pid}, 13 of them, {{}}).",
        "a/new": "Step {step} of {tmp} has lost its {file} (process 7, 13 of them, {{}}).",
    }
    messages.said([sentence], "a/lost", file="a.bin", step=3)
    messages.said([sentence.replace("process 7", "process 8")], "a/lost", file="a.bin", step=3)


def test_a_fact_may_be_a_pattern(snapshot: Path, tmp_path: Path) -> None:
    sentence = f"a.bin is lost at step 3; {tmp_path} is left, by process 41."
    messages.said(sentence, "a/lost", file=re.compile(r"\w\.bin"), step=3)
    assert not messages.is_said(sentence, "a/lost", file=re.compile(r"\d\.bin"), step=3)
