"""Registration: one version a digest, aliases that follow the verdict, a card, and a model that loads anywhere."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.cleaning import DedupSpec, dedup
from tasks.contracts import Champion, Checkpoint, Preferences
from tasks.core.errors import ContractError, GateError, TransientError
from tasks.core.run import Run, running
from tasks.core.site import Site, service_environment
from tasks.core.store import Store
from tasks.core.tracking import (
    aliased_digests,
    aliases,
    champion,
    download,
    find_version,
    served_folder,
    set_tags,
    versions,
)
from tasks.core.tracking.client import experiment_id, mlflow_client
from tasks.core.tracking.model import _downloaded
from tasks.registry import ChampionSpec, RegisterSpec, register_model, resolve_champion, upload
from tests.data.kit import english, filtered_of
from tests.registry.kit import (
    Chain,
    KnownRun,
    _mlflow_run,
    commit,
    judged_again,
    make_chain,
    make_verdict,
    partial,
    register,
    register_as_judged,
)

SPEC = RegisterSpec(name="toy")


@pytest.fixture
def chain(site: Site) -> Chain:
    return make_chain(site, seed=1)


def test_a_passed_model_becomes_champion_with_card_and_tags(site: Site, chain: Chain) -> None:
    version = register_model.build(SPEC, *chain.inputs, site=site)  # outside of a run it makes one
    assert (version.version, version.is_champion, version.model_digest) == (1, True, chain.tuned.digest)
    assert aliases(site, "toy") == {"candidate": 1, "champion": 1}
    stored = mlflow_client(site).get_model_version("toy", "1")
    assert stored.tags["textmill.digest"] == chain.tuned.digest
    assert stored.tags["textmill.base_digest"] == chain.base.digest
    assert stored.tags["textmill.verdict"] == "passed"
    card = (version.path / "card.md").read_text()
    assert stored.description == card
    for said in ("CC-BY-SA-3.0", "| commands | MIT | 2 |", "-0.500 [-0.600, -0.400]", "few documents in zh", "learning_rate"):
        assert said in card
    assert "Held-out items: 5 documents that held one were left out (answer 3, ngram 2), 1 were kept." in card
    assert "only 3 documents \\| a &lt;b> [of]\\(its own)" in card, "what others wrote is escaped"
    run = mlflow_client(site).get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert {item.dataset.name for item in run.inputs.dataset_inputs} == {chain.corpus.address, chain.conversations.address}
    folder = served_folder(site, champion(site, "toy"))
    assert (folder.parent / "adapter" / "adapter_config.json").exists()
    assert folder.stat().st_ino != (chain.tuned.path / "model").stat().st_ino
    assert aliased_digests(site) == {chain.tuned.digest}


def test_models_of_every_page_keep_what_their_aliases_point_at(site: Site, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.tracking.registry._PAGE_MODELS", 1)
    for name in ("before", "between"):
        mlflow_client(site).create_registered_model(name)
    register(site, chain)
    assert aliased_digests(site) == {chain.tuned.digest}


def test_a_rerun_changes_nothing(site: Site, chain: Chain) -> None:
    assert (register(site, chain).result, register(site, chain).result) == ("built", "reused")
    assert len(versions(site, "toy")) == 1


def test_an_emptied_store_finds_its_version_again(site: Site, chain: Chain) -> None:
    first = register(site, chain).artifact
    Store(site.store_dir).retire(first.path)
    again = register(site, chain).artifact
    assert (again.version, again.digest) == (1, first.digest)
    assert len(versions(site, "toy")) == 1


@pytest.mark.parametrize("dies_in", ["_store_files", "_create_version", "set_tags", "point_aliases"])
def test_a_crash_anywhere_converges_on_the_next_run(
    site: Site, chain: Chain, dies_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.registry import register as register_module

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(upload if hasattr(upload, dies_in) else register_module, dies_in, die)
        with pytest.raises(Killed):
            register(site, chain)
    assert champion(site, "toy") is None
    assert register(site, chain).artifact.is_champion
    (version,) = versions(site, "toy")
    assert version.aliases == ("candidate", "champion")
    assert len(mlflow_client(site).search_logged_models([experiment_id(site)])) == 1


def test_a_model_that_did_not_pass_stays_candidate(site: Site) -> None:
    good, bad = make_chain(site, 1), make_chain(site, 2, passed=False)
    register(site, good)
    version = register(site, bad).artifact
    assert not version.is_champion
    assert aliases(site, "toy") == {"champion": 1, "candidate": 2}
    assert register(site, bad).result == "reused"


def test_a_version_taken_back_is_not_promoted_again(site: Site) -> None:
    first, second = make_chain(site, 1), make_chain(site, 2)
    register(site, first)
    register(site, second)
    set_tags(site, champion(site, "toy"), {"textmill.rolled_back": "it swore"})
    mlflow_client(site).set_registered_model_alias("toy", "champion", "1")
    assert not register(site, second).artifact.is_champion
    assert aliases(site, "toy")["champion"] == 1
    assert register(site, second).result == "reused"


def test_a_model_that_was_judged_before_the_champion_came_stays_candidate(site: Site) -> None:
    first, second = make_chain(site, 1), make_chain(site, 2)
    register(site, first)
    against = rf"judged against no champion, and the champion is model {first.tuned.digest[:12]} by now\. Run again"
    with pytest.raises(GateError, match=against):
        register_as_judged(site, second)
    assert aliases(site, "toy") == {"champion": 1, "candidate": 2}
    judged = judged_again(site, second)
    assert register_as_judged(site, judged).artifact.is_champion
    assert register_as_judged(site, judged).result == "reused"


def test_a_version_keeps_the_form_it_has_and_another_name_gets_its_own(site: Site, chain: Chain) -> None:
    register(site, chain)
    asked = r"toy version 1 holds this model with registry\.answer_tokens = 128, and 64 is asked for"
    with pytest.raises(ContractError, match=asked):
        register(site, chain, answer_tokens=64)
    register(site, chain, "other", answer_tokens=64)
    folder = download(site, champion(site, "other"))
    assert '"default": 64' in (folder / "MLmodel").read_text()
    assert (folder / "card.md").read_text().startswith("# other\n")


def test_its_purpose_opens_the_card(site: Site, chain: Chain) -> None:
    version = register(site, chain, purpose="Answers sailors.").artifact
    card = (version.path / "card.md").read_text()
    assert card.startswith("# toy\n\nAnswers sailors.\n")
    assert mlflow_client(site).get_model_version("toy", str(version.version)).description == card


def test_artifacts_of_different_runs_are_refused(site: Site, chain: Chain) -> None:
    other = make_chain(site, 2)
    mixed = dataclasses.replace(chain, verdict=other.verdict)
    with pytest.raises(ContractError, match="the verdict's model is"):
        register(site, mixed)
    assert versions(site, "toy") == []


def test_mlflow_down_is_a_transient_error_that_says_where(site: Site, chain: Chain) -> None:
    down = site.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"})
    with pytest.raises(TransientError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
        register_model.build(SPEC, *chain.inputs, site=down)


def test_a_copied_state_folder_reads_and_writes_its_own_files(site: Site, chain: Chain, tmp_path: Path) -> None:
    register(site, chain)
    copy = site.model_copy(update={"state_dir": tmp_path / "a copy" / ".textmill"})
    shutil.copytree(site.root, copy.root)
    before = sorted(site.root.rglob("mlartifacts/**"))
    assert served_folder(copy, champion(copy, "toy")).is_relative_to(copy.root)
    register(copy, make_chain(copy, 2))
    assert served_folder(copy, champion(copy, "toy")).is_relative_to(copy.root)
    run = mlflow_client(copy).create_run(experiment_id(copy))
    assert run.info.artifact_uri.startswith(copy.root.as_uri())
    assert sorted(site.root.rglob("mlartifacts/**")) == before
    assert served_folder(site, champion(site, "toy")).is_relative_to(site.root)


def test_the_champion_is_copied_and_answered_from_the_store(site: Site) -> None:
    first, second = make_chain(site, 1), make_chain(site, 2)
    none = resolve_champion.build(ChampionSpec(name="toy"), first.tuned, site=site)
    assert (none.version, none.model_digest, (none.path / "model").exists()) == (None, None, False)
    register(site, first)
    kept = resolve_champion.outcome(ChampionSpec(name="toy"), first.tuned, site=site)
    assert (kept.result, kept.artifact) == ("reused", none), "a model that is champion keeps its verdict"
    found = resolve_champion.build(ChampionSpec(name="toy"), second.tuned, site=site)
    assert isinstance(found, Champion)
    assert found.model_digest == first.tuned.digest
    for path in (first.tuned.path / "model").iterdir():
        assert (found.path / "model" / path.name).read_bytes() == path.read_bytes()
    assert resolve_champion.outcome(ChampionSpec(name="toy"), second.tuned, site=site).result == "reused"
    third = make_chain(site, 3)
    register(site, third)
    moved = resolve_champion.outcome(ChampionSpec(name="toy"), second.tuned, site=site)
    assert moved.result == "built"
    assert moved.artifact.model_digest == third.tuned.digest


def test_a_new_verdict_on_a_known_model_makes_no_second_version(site: Site, chain: Chain) -> None:
    refused = dataclasses.replace(chain, verdict=make_verdict(site, "no", chain.tuned, passed=False))
    assert not register(site, refused).artifact.is_champion
    assert register(site, chain).artifact.is_champion
    assert len(versions(site, "toy")) == 1
    version = find_version(site, "toy", 1)
    assert version.tags["textmill.verdict"] == "passed"
    card = (download(site, version) / "card.md").read_text()
    assert "Judged last: it passed." in card
    assert card == mlflow_client(site).get_model_version("toy", "1").description


LOAD = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/toy@champion")
messages = json.dumps([{"role": "user", "content": "the quick brown fox"}])
answers = [
    model.predict(["the quick brown fox"], params={"max_new_tokens": 12}),
    model.predict(pandas.DataFrame({"prompt": ["the quick brown fox"]}), params={"max_new_tokens": 12}),
    model.predict(pandas.DataFrame({"messages": [messages]}), params={"max_new_tokens": 12}),
    model.predict("the quick brown fox", params={"max_new_tokens": 12}),
]
assert not {name for name in sys.modules if name.split(".")[0] in ("tasks", "flows", "deploy")}
json.dump(answers, sys.stdout)
"""


def test_it_loads_by_alias_in_a_fresh_process_without_textmill(site: Site, chain: Chain, tmp_path: Path) -> None:
    register(site, chain)
    expected = reference_answer(chain.tuned.path / "model", "the quick brown fox", 12)
    shutil.rmtree(site.store_dir)  # the version has its own copy
    environment = os.environ | service_environment(site) | {"HF_HUB_OFFLINE": "1"}
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    done = subprocess.run([sys.executable, "-c", LOAD], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers == [[expected]] * 4
    assert "Warning" not in done.stderr


def reference_answer(folder: Path, prompt: str, max_new_tokens: int) -> str:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    output = model.generate(ids, do_sample=False, max_new_tokens=max_new_tokens)
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


def test_the_card_says_what_others_made(chain: Chain) -> None:
    from tasks.registry.card import Findings, model_card

    given = chain.base.model_copy(update={"method": "adopted", "licence": "Apache-2.0"})
    continued = chain.base.model_copy(update={"licence": "Apache-2.0"})

    def card(base: Checkpoint) -> str:
        parts = (chain.tuned, chain.report, chain.verdict, chain.quality, chain.corpus, chain.conversations)
        return model_card("m", "", Findings(base, *parts))

    assert "Trained from scratch on 12,345 tokens" in card(chain.base)
    assert "| pretraining | none here: a model that others made (licence: Apache-2.0) |" in card(given)
    assert "| pretraining | 12,345 tokens in 10 steps, fp32, from a model that others made (licence: Apache-2.0) |" in card(
        continued
    )
    assert all("from scratch" not in card(one) for one in (given, continued))
    assert all("\nPretraining: 3 documents after cleaning" in card(one) for one in (chain.base, continued))
    assert "\nGeneral text, for scoring: 3 documents after cleaning" in card(given)
    assert "Pretraining:" not in card(given)
    assert "| figure | mean [90% interval] | items |" in card(given), "as the report was made"


def rewrite(folder: Path, **parts: dict[str, object]) -> None:
    manifest = folder / "manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told | {name: told[name] | changes for name, changes in parts.items()}))


def test_what_a_corpus_was_used_for_is_told_to_mlflow(site: Site, chain: Chain) -> None:
    rewrite(chain.base.path, facts={"method": "adopted", "licence": "MIT"})
    rewrite(chain.tuned.path, spec={"replay": {"share": 0.2}})
    given = Store(site.store_dir).load(Checkpoint, chain.base.path)
    with running(Run(site, "toy-recipe", tracker=KnownRun(_mlflow_run(site)))):
        version = register_model.build(SPEC, *dataclasses.replace(chain, base=given).inputs, site=site)
    used = {one.dataset.name: one.tags[0].value for one in mlflow_client(site).get_run(version.run_id).inputs.dataset_inputs}
    assert used == {chain.corpus.address: "scoring and replay in tuning", chain.conversations.address: "tuning"}


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["mail", "card"], "Personal data (mail, card) was masked in the corpus by rules, which miss some; not in the"),
        ([], "Personal data was not masked."),
        (None, "Whether personal data was masked in the corpus is not known"),
    ],
)
def test_the_card_says_whether_personal_data_was_masked(
    site: Site, chain: Chain, tmp_path: Path, kinds: list[str] | None, said: str
) -> None:
    from tasks.registry.card import Findings, model_card

    rows = [{"text": english(number)} for number in range(4)]
    filtered = filtered_of(site, tmp_path, rows, mask_personal_data=kinds or [])
    corpus = dedup.build(DedupSpec(), filtered, site=site)
    if kinds is None:
        shutil.rmtree(filtered.path)
    parts = dataclasses.replace(chain, corpus=corpus).inputs
    assert f"Not tuned for safety. {said}" in model_card("m", "", Findings(*parts))


def test_the_card_tells_what_a_model_learned_before_preferences_and_from_which(site: Site, chain: Chain) -> None:
    (partial(site, Preferences, "pairs") / "preferences.jsonl").write_text("{}\n")
    counts = {"items_by_split": {"train": 4, "test": 1}, "items_by_source": {"better": 5}, "dropped_by_reason": {}}
    sets = {"train": [{"name": "better", "licence": "CC0-1.0"}]}
    pairs = commit(site, Preferences, "pairs", sets, form="paired", num_items_in=5, num_items=5, **counts)
    inputs = {
        name: {"kind": one.kind(), "fingerprint": one.fingerprint, "digest": one.digest}
        for name, one in {"base": chain.tuned, "preferences": pairs}.items()
    }
    learned = make_chain(site, seed=2, base=chain.base)
    rewrite(learned.tuned.path, inputs=inputs, facts={"method": "dpo, lora"})
    tuned = Store(site.store_dir).load(Checkpoint, learned.tuned.path)
    version = register(site, dataclasses.replace(learned, tuned=tuned)).artifact
    card = (version.path / "card.md").read_text()
    assert "| tuning | lora, 12,345 tokens in 10 steps |" in card
    assert "| learning from preferences | dpo, lora, 12,345 tokens in 10 steps |" in card
    assert "| better | CC0-1.0 | 5 |" in card
    run = mlflow_client(site).get_run(version.run_id)
    assert pairs.address in {item.dataset.name for item in run.inputs.dataset_inputs}


def test_files_of_a_version_come_whole_and_once_whoever_asks(site: Site) -> None:
    register(site, make_chain(site, 1))
    version = champion(site, "toy")
    with ThreadPoolExecutor(2) as pool:
        folder, same = pool.map(lambda _: _downloaded(site, version), range(2))
    assert folder == same
    linked = folder.parent / "linked"
    linked.hardlink_to(folder / "MLmodel")
    (folder / ".whole").unlink()
    assert not _downloaded(site, version).joinpath("MLmodel").samefile(linked), "what a store links to is not written again"
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, f"{folder.name}.lock", "linked"]
