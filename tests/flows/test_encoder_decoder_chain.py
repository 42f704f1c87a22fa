"""The whole chain with an encoder-decoder: pretrained, tuned to answer, scored, registered, served by MLflow's server."""

from pathlib import Path

import pytest

from tests.chain import textmill

SHARED = ("pretrain.model.residual_init=same", "gate.prompt_gain_over_base=-1", "gate.forgetting=9", "gate.keyword_loss=9")
CHAINS = {
    "t5": (
        "pretrain.objective={kind='span_corruption'}",
        "pretrain.model.family=t5",
        "pretrain.optim.learning_rate=4e-2",
        "tune.method={kind='lora', rank=8}",
        "registry.holds=adapter",
    ),
    "bart": ("pretrain.objective={kind='text_infilling'}", "pretrain.model.family=bart", "tune.method={kind='full'}"),
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("family", list(CHAINS))
def test_an_encoder_decoder_goes_the_whole_way(family: str, tmp_path: Path) -> None:
    state, name = tmp_path / ".textmill", f"textmill-{family}"
    command = ("run", "ci", *(word for one in (*SHARED, *CHAINS[family], f"registry.name={name}") for word in ("--set", one)))
    run = textmill(state, *command)
    assert run.code == 0, run.output
    assert "MLflow's scoring server answers, no OpenAI API" in run.output
    assert run.manifests("deploy")[-1].facts["engine"] == "mlflow"
    assert run.manifests("evaluate")[-1].facts["differences"]["base/answer_loss"]["high"] < 0
    again = textmill(state, *command)
    assert again.code == 0, again.output
    assert {result for stage, result in again.results if stage != "require_verdict"} == {"reused"}
    answer = run.read("deploy", "answers.json")[0]
    asked = textmill(state, "chat", name, "--prompt", answer["prompt"])
    assert asked.code == 0, asked.output
    assert answer["answer"].split()[0] in asked.output
