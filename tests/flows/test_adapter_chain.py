"""The whole chain with a method that does not merge: tuned, scored, registered without its base, served by MLflow's server."""

import os
import shutil
from pathlib import Path

import pytest

from tests.chain import ChainRun, textmill

SET = (
    "tune.method.kind=bottleneck",
    "tune.optim.learning_rate=5e-3",
    "registry.name=textmill-adapter",
    "gate.prompt_gain_over_base=-1",  # what is looked at here is the way of such a model, not what it learned
    "gate.forgetting=9",
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_adapter_goes_the_whole_way(chain: ChainRun, tmp_path: Path) -> None:
    """On a copy of the state of the shared run, whose base it is trained on; a second run changes nothing."""
    state = tmp_path / ".textmill"
    shutil.copytree(chain.state, state, copy_function=_link_or_copy)
    command = ("run", "ci", *(word for one in SET for word in ("--set", one)))
    run = textmill(state, *command)
    assert run.code == 0, run.output
    results = dict(run.results)
    assert (results["pretrain"], results["tune"], results["register"], results["deploy"]) == ("reused", "built", "built", "built")
    assert run.manifests("deploy")[-1].facts["engine"] == "mlflow"
    assert run.manifests("evaluate")[-1].facts["differences"]["base/answer_loss"]["high"] < 0
    again = textmill(state, *command)
    assert again.code == 0, again.output
    assert {result for name, result in again.results if name != "require_verdict"} == {"reused"}
    answer = run.read("deploy", "answers.json")[0]
    asked = textmill(state, "chat", "textmill-adapter", "--prompt", answer["prompt"])
    assert answer["answer"].split()[0] in asked.output, asked.output


def _link_or_copy(source: str, target: str) -> None:
    """Artifacts never change and may be links; what services write must not be shared."""
    if "store" in Path(source).parts:
        os.link(source, target)
    else:
        shutil.copy2(source, target)
