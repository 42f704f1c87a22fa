"""`textmill rollback`: what it says of the version that is live."""

from types import SimpleNamespace

import pytest

from deploy import rollout
from flows import talk
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
