"""`textmill chat` and `rollback`: a talk goes on, and what is said of the version that is live."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from deploy import live, rollout
from flows import talk
from tasks.core.errors import StageError
from tasks.core.site import Site


@pytest.mark.parametrize(
    ("live", "said"), [(2, "toy: version 1 is live again"), (1, "toy: version 1 stays live, and is champion again")]
)
def test_it_says_whether_the_version_was_live_all_along(
    site: Site, live: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(talk, "aliases", lambda site, name: {"live": live, "champion": 2})
    monkeypatch.setattr(rollout, "rollback", lambda *_: SimpleNamespace(version=1))
    talk.roll_back("toy", 1, "")
    assert capsys.readouterr().out.strip() == said


def short_memory(messages: list[dict[str, str]], max_tokens: int) -> str:
    """Answers with what it was told, of three messages at most."""
    if len(messages) > 3:
        raise StageError("the prompt has 9 tokens, the model's context 8: shorten it")
    return "/".join(message["content"] for message in messages)


def test_a_talk_that_outgrows_the_context_goes_on_with_its_last_turns() -> None:
    told: list[str] = []
    ask = live._conversation(short_memory, told.append)
    assert [ask(one, 1) for one in "abcd"] == ["a", "a/a/b", "b/a/a/b/c", "c/b/a/a/b/c/d"]
    assert told == ["(the talk is longer than the model reads: its oldest turns are left out from here on)"]


def refusing(messages: list[dict[str, str]], max_tokens: int) -> str:
    """Answers with the number of messages, but takes no long one."""
    if messages[-1]["content"] == "long":
        raise StageError("shorten it")
    return f"of {len(messages)}"


def test_a_refusal_ends_a_single_question_and_leaves_a_talk_as_it_was(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def chat(*_: object, **__: object) -> Iterator[live.Ask]:
        yield live._conversation(refusing, lambda text: None)

    monkeypatch.setattr(rollout, "open_chat", chat)
    with pytest.raises(StageError, match="shorten it"):
        talk.chat_with("toy", "long", 1)
    lines = iter(("a", "long", "b", ""))
    monkeypatch.setattr(talk, "_read_line", lambda: next(lines))
    talk.chat_with("toy", None, 1)
    assert capsys.readouterr().out.splitlines()[1:] == ["of 1", "shorten it", "of 3"]
