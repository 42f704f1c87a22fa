"""Encoder-decoders in the registry: whole or as adapters, they answer as they were scored, and say what they are."""

from pathlib import Path

import pytest

from tasks.core.site import Site
from tasks.core.tracking.client import experiment_id, mlflow_client
from tasks.modeling.infer import Reader, greedy_answers
from tasks.tuning import LoraSpec
from tests.architectures import adopted
from tests.modeling.kit import in_process
from tests.registry.kit import make_chain, register
from tests.registry.test_adapters import PROMPTS, answers_of


@pytest.mark.parametrize("holds", ["model", "adapter"])
@pytest.mark.parametrize(("architecture", "alpha"), [("t5", 32.0), ("bart", 1.0)])
def test_an_encoder_decoder_answers_as_it_was_scored(
    architecture: str, alpha: float, holds: str, site: Site, tmp_path: Path
) -> None:
    with in_process():
        base = adopted(architecture, "AutoModelForSeq2SeqLM", site, tmp_path)
    chain = make_chain(site, 7, base=base, method=LoraSpec(kind="lora", rank=4, alpha=alpha))
    name = f"{architecture}-{holds}"
    register(site, chain, name, holds=holds)
    reader = Reader.load(chain.tuned.path / "model", "cpu", "fp32")
    questions = [reader.question([{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    said = answers_of(name)
    assert said == greedy_answers(reader, questions, 12)
    assert len(set(said)) == (len(PROMPTS) if architecture == "t5" else 1)  # a random BART says the same of everything
    made = mlflow_client(site).search_logged_models([experiment_id(site)])
    assert {str(one.model_type) for one in made} == {"seq2seq-lm"}
