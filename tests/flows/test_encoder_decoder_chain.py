"""The whole chain with an encoder-decoder: pretrained, tuned to answer, scored, registered, served by MLflow's server."""

from pathlib import Path

import pytest

from tests.chain import textmill


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_encoder_decoder_goes_the_whole_way(tmp_path: Path) -> None:
    state = tmp_path / ".textmill"
    run = textmill(state, "run", "demo-t5")
    assert run.code == 0, run.output
    assert run.manifests("deploy")[-1].facts["engine"] == "mlflow"
    assert run.manifests("evaluate")[-1].facts["differences"]["base/answer_loss"]["high"] < 0
    again = textmill(state, "run", "demo-t5")
    assert again.code == 0, again.output
    assert {result for stage, result in again.results if stage != "require_verdict"} == {"reused"}
    answer = run.read("deploy", "answers.json")[0]
    asked = textmill(state, "chat", "textmill-demo-t5", "--prompt", answer["prompt"])
    assert asked.code == 0, asked.output
    assert answer["answer"].split()[0] in asked.output
