"""Which version is live, and why: the roll-out's and the rollback's decisions, with the trial itself played back.

What a trial does for real is in test_serving.py.
"""

import json
from collections.abc import Callable

import filelock
import pytest

from deploy import aliases as aliases_module
from deploy import rollback as rollback_module
from deploy import rollout
from deploy.audit import audit_file
from deploy.rollout import DeploySpec, deploy_model, rollback
from deploy.trial import Trial, compare
from tasks.contracts import ModelVersion
from tasks.core.errors import ContractError, GateError
from tasks.core.site import Site
from tasks.core.tracking import RegisteredVersion, aliases, champion, find_version
from tasks.registry import version as version_module
from tests.registry.kit import Chain, make_chain, register

Released = tuple[ModelVersion, Chain]
SPEC = DeploySpec(prompts=("hello",), max_new_tokens=4)


class Killed(BaseException):
    """What a kill looks like from inside."""


def die(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The versions that were tried; each trial goes well."""
    versions: list[int] = []

    def try_out(site: Site, version: RegisteredVersion, prompts: tuple[str, ...], *_: object) -> Trial:
        versions.append(version.version)
        return Trial(tuple(f"answer of {version.version}" for _ in prompts), "transformers", 1 + len(prompts))

    monkeypatch.setattr(rollout, "try_out", try_out)
    monkeypatch.setattr(rollback_module, "try_out", try_out)
    return versions


def deploy(site: Site, released: Released):
    version, chain = released
    return deploy_model.outcome(SPEC, version, chain.tuned, site=site)


def audit(site: Site) -> list[tuple[str, int | None, int]]:
    lines = [json.loads(line) for line in audit_file(site).read_text().splitlines()]
    return [(line["action"], line["from"], line["to"]) for line in lines]


def test_a_champion_goes_live_once(site: Site, first: Released, tried: list[int]) -> None:
    outcome = deploy(site, first)
    assert outcome.result == "built"
    assert json.loads((outcome.artifact.path / "answers.json").read_text()) == [{"prompt": "hello", "answer": "answer of 1"}]
    assert outcome.artifact.num_checks == 2
    assert aliases(site, "toy") == {"candidate": 1, "champion": 1, "live": 1}
    assert deploy(site, first).result == "reused"
    assert tried == [1], "nothing to change starts no server"
    assert audit(site) == [("deploy", None, 1)]


def test_the_next_champion_remembers_the_one_before(site: Site, first: Released, second: Released, tried: list[int]) -> None:
    with pytest.raises(GateError, match="toy version 1 is a candidate, not the champion"):
        deploy(site, first)
    site_aliases = aliases(site, "toy")
    assert "live" not in site_aliases
    deploy(site, second)
    assert aliases(site, "toy")["live"] == 2


def go_live_one_after_another(site: Site, first: Released) -> Released:
    deploy(site, first)
    chain = make_chain(site, seed=2)
    second = register(site, chain).artifact, chain
    deploy(site, second)
    assert aliases(site, "toy") == {"candidate": 2, "champion": 2, "live": 2, "previous": 1}
    return second


def test_a_candidate_leaves_live_untouched(site: Site, first: Released, tried: list[int]) -> None:
    deploy(site, first)
    chain = make_chain(site, seed=2, passed=False)
    with pytest.raises(GateError, match="what is live stays live"):
        deploy(site, (register(site, chain).artifact, chain))
    assert aliases(site, "toy")["live"] == 1
    assert tried == [1]


def test_a_failed_trial_leaves_live_untouched(
    site: Site, first: Released, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(site, first)
    chain = make_chain(site, seed=2)
    version = register(site, chain).artifact

    def differs(site: Site, version: RegisteredVersion, *_: object) -> Trial:
        compare(version, ["hello"], ["served"], ["loaded"])
        raise AssertionError("compare let a difference pass")

    monkeypatch.setattr(rollout, "try_out", differs)
    with pytest.raises(GateError, match="answers 'served' when served and 'loaded' when loaded"):
        deploy(site, (version, chain))
    assert aliases(site, "toy") == {"candidate": 2, "champion": 2, "live": 1}
    assert audit(site) == [("deploy", None, 1)]


def test_only_white_space_at_the_ends_may_differ(site: Site, first: Released) -> None:
    version = champion(site, "toy")
    compare(version, ["a"], ["text"], [" text\n"])
    with pytest.raises(GateError):
        compare(version, ["a"], ["te xt"], ["text"])


@pytest.mark.parametrize("dies_in", ["note", "set_alias", "set_tags"])
def test_a_crash_between_alias_and_roll_out_converges(
    site: Site, first: Released, tried: list[int], dies_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(site, first)
    chain = make_chain(site, seed=2)
    second = register(site, chain).artifact, chain
    with monkeypatch.context() as patch:
        patch.setattr(aliases_module, dies_in, die)
        with pytest.raises(Killed):
            deploy(site, second)
    assert aliases(site, "toy")["live"] == 1
    assert deploy(site, second).result == "built"
    assert aliases(site, "toy") == {"candidate": 2, "champion": 2, "live": 2, "previous": 1}
    assert audit(site)[-1] == ("deploy", 1, 2)


def test_a_bad_version_is_taken_back_and_not_promoted_again(site: Site, first: Released, tried: list[int]) -> None:
    second = go_live_one_after_another(site, first)
    assert rollback(site, "toy", reason="it swears").version == 1
    assert aliases(site, "toy") == {"candidate": 2, "champion": 1, "live": 1}
    assert find_version(site, "toy", 2).rolled_back == "it swears"
    assert tried == [1, 2, 1], "the version gone back to is tried before aliases move"
    assert audit(site)[-1] == ("rollback", 2, 1)
    again = register(site, second[1]).artifact, second[1]
    with pytest.raises(GateError, match=r"toy version 2 was taken back \(it swears\)"):
        deploy(site, again)
    assert aliases(site, "toy")["live"] == 1
    assert deploy(site, first).result == "reused"


def test_a_champion_that_never_went_live_is_taken_back_by_going_to_the_live_one(
    site: Site, first: Released, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(site, first)
    register(site, make_chain(site, seed=2))
    with pytest.raises(ContractError, match=r"no earlier version .* \[2\] with --to; --to 1 takes toy version 2 back"):
        rollback(site, "toy")
    with monkeypatch.context() as patch:
        patch.setattr(rollback_module, "set_alias", die)
        with pytest.raises(Killed):
            rollback(site, "toy", to=1)
    assert aliases(site, "toy") == {"candidate": 2, "champion": 2, "live": 1}
    assert rollback(site, "toy").version == 1, "a killed one is gone on with"
    assert aliases(site, "toy") == {"candidate": 2, "champion": 1, "live": 1}
    assert [find_version(site, "toy", number).rolled_back is None for number in (1, 2)] == [True, False]


@pytest.mark.parametrize("to", [None, 1])
def test_the_live_version_is_taken_back_though_another_is_champion(
    site: Site, first: Released, tried: list[int], to: int | None
) -> None:
    go_live_one_after_another(site, first)
    register(site, make_chain(site, seed=3))
    assert rollback(site, "toy", to=to, reason="bad answers").version == 1
    assert [find_version(site, "toy", number).rolled_back for number in (1, 2, 3)] == [None, "bad answers", None]
    assert aliases(site, "toy") == {"candidate": 3, "champion": 1, "live": 1}
    assert audit(site)[-1] == ("rollback", 2, 1)


def test_a_slow_trial_does_not_replace_a_newer_champion(
    site: Site, first: Released, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(site, first)
    chain, newer = make_chain(site, seed=2), make_chain(site, seed=3)
    second = register(site, chain).artifact, chain

    def slow(*_: object) -> Trial:
        register(site, newer)
        return Trial(("answer",), "transformers", 2)

    monkeypatch.setattr(rollout, "try_out", slow)
    with pytest.raises(GateError, match=r"toy version 2 is not the champion any more: .* stays live\. Run its recipe again"):
        deploy(site, second)
    assert aliases(site, "toy") == {"candidate": 3, "champion": 3, "live": 1}


def test_registration_and_roll_out_move_aliases_under_one_lock(
    site: Site, first: Released, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []

    def while_locked(site: Site, version: RegisteredVersion, alias: str) -> None:
        with pytest.raises(filelock.Timeout):
            filelock.UnixFileLock(site.root / "serving" / "toy.lock").acquire(timeout=0)
        moved.append(alias)

    for module in (version_module, aliases_module):
        monkeypatch.setattr(module, "set_alias", while_locked)
    deploy(site, first)
    register(site, make_chain(site, seed=2, passed=False))
    assert moved == ["live", "candidate"]


def test_rollback_to_a_named_version_makes_it_good_again(site: Site, first: Released, tried: list[int]) -> None:
    go_live_one_after_another(site, first)
    rollback(site, "toy")
    assert rollback(site, "toy", to=2, reason="it was right").version == 2
    assert find_version(site, "toy", 2).rolled_back is None
    assert find_version(site, "toy", 1).rolled_back == "it was right"


def test_rollbacks_walk_back(site: Site, first: Released, tried: list[int]) -> None:
    go_live_one_after_another(site, first)
    chain = make_chain(site, seed=3)
    deploy(site, (register(site, chain).artifact, chain))
    assert aliases(site, "toy")["previous"] == 2
    assert rollback(site, "toy").version == 2
    assert aliases(site, "toy")["previous"] == 1
    assert rollback(site, "toy").version == 1
    with pytest.raises(ContractError, match=r"no earlier version of toy.*(--to|run the recipe again)"):
        rollback(site, "toy")


CALLS_OF_A_ROLLBACK = 9


@pytest.mark.parametrize("survived_calls", range(CALLS_OF_A_ROLLBACK))
def test_a_killed_rollback_is_finished_by_the_next_one(
    site: Site, first: Released, tried: list[int], survived_calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_live_one_after_another(site, first)
    chain = make_chain(site, seed=3)
    deploy(site, (register(site, chain).artifact, chain))
    left = [survived_calls]

    def counted(call: Callable[..., None]) -> Callable[..., None]:
        def run(*args: object, **options: object) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            call(*args, **options)

        return run

    with monkeypatch.context() as patch:
        for name in ("note", "set_tags", "set_alias", "delete_alias", "delete_tag"):
            patch.setattr(rollback_module, name, counted(getattr(rollback_module, name)))
        try:
            rollback(site, "toy")
            assert survived_calls == CALLS_OF_A_ROLLBACK - 1, "the rollback has fewer steps than are tested"
            return
        except Killed:
            pass
    assert rollback(site, "toy").version == 2
    assert aliases(site, "toy") == {"candidate": 3, "champion": 2, "live": 2, "previous": 1}
    assert find_version(site, "toy", 3).rolled_back


@pytest.mark.parametrize(
    ("to", "message"),
    [(7, "toy has no version 7; it has [1]"), (1, "version 1 is the one to take back"), (None, "no earlier version")],
)
def test_a_rollback_to_nowhere_says_what_there_is(
    site: Site, first: Released, tried: list[int], to: int | None, message: str
) -> None:
    deploy(site, first)
    with pytest.raises(ContractError) as caught:
        rollback(site, "toy", to=to)
    assert message in str(caught.value)
    assert tried == [1]


def test_nothing_to_take_back(site: Site) -> None:
    with pytest.raises(ContractError, match="neither a live version nor a champion"):
        rollback(site, "never-registered")
