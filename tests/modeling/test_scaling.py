"""From the size of a model to its training, by hand; the weights of each family held against the real model."""

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from flows.outlook import scale_line
from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.core.store import read_manifest
from tasks.modeling.job import PretrainJob
from tasks.modeling.model import model_config
from tasks.modeling.optim import hidden_matrices
from tasks.modeling.scaling import batch_tokens, hidden_flops_per_token, peak_rate, scaled
from tasks.modeling.specs import AdamWSpec, BudgetSpec, ModelSpec, TrainSpec
from tasks.modeling.words import SpecialIds
from tasks.pretrain import PretrainSpec, pretrain
from tests.data.kit import no_base
from tests.modeling.kit import ToySpec, in_process, toy_tokenizer, toy_tokens

SMALL = ModelSpec(depth=2, width=64, num_heads=4, num_kv_heads=2, ffn_width=128, context_tokens=32)
WEIGHTS = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
LARGE = ModelSpec(depth=20, context_tokens=2048)  # 0.43 G hidden weights


@pytest.mark.parametrize(
    ("family", "auto_class"),
    [
        ("llama", "AutoModelForCausalLM"),
        ("qwen3", "AutoModelForCausalLM"),
        ("gpt2", "AutoModelForCausalLM"),
        ("bert", "AutoModelForMaskedLM"),
        ("modernbert", "AutoModelForMaskedLM"),
        ("t5", "AutoModelForSeq2SeqLM"),
        ("bart", "AutoModelForSeq2SeqLM"),
    ],
)
def test_the_hidden_weights_are_those_of_the_real_model(family: str, auto_class: str) -> None:
    import transformers

    spec = ModelSpec.model_validate({"family": family, "depth": 3, "width": 96, "num_heads": 6})
    with torch.device("meta"):
        model = getattr(transformers, auto_class).from_config(model_config(spec, 1000, SpecialIds(0, 1, 2)))
        output = model.get_output_embeddings()
        output.weight = torch.nn.Parameter(torch.empty_like(output.weight))  # untied, as T5 v1.1 has it
    assert spec.num_matrix_weights == sum(weight.numel() for weight in hidden_matrices(model).values())


def test_the_rules_by_hand() -> None:
    """DeepSeek LLM's formulas at C = 1e19: 0.3118 / 10^2.375 and 0.2920 * 10^6.2149 tokens."""
    assert peak_rate(1e19) == pytest.approx(0.3118 / 10**2.375)
    assert batch_tokens(1e19) == pytest.approx(0.2920 * 10**6.2149)
    assert SMALL.num_matrix_weights == WEIGHTS
    assert hidden_flops_per_token(SMALL) == 6 * WEIGHTS + 12 * 2 * 64 * 32


def test_a_large_model_is_trained_by_the_rules() -> None:
    found = scaled(LARGE, BudgetSpec(), None, 10**12)
    assert found is not None
    assert found.budget_tokens == found.train.num_tokens == 20 * LARGE.num_matrix_weights
    assert found.flops == hidden_flops_per_token(LARGE) * found.budget_tokens
    wanted = batch_tokens(found.flops) / 2048
    assert found.train.batch_rows == 2 ** round(math.log2(wanted))
    assert found.learning_rate == pytest.approx(0.3118 * found.flops**-0.125)


def test_of_little_text_at_most_four_passes_are_read() -> None:
    found = scaled(LARGE, BudgetSpec(), None, 1000)
    assert found is not None
    assert found.budget_tokens == 4000
    assert scaled(LARGE, BudgetSpec(), None, None) is None


def test_below_the_range_the_rate_stays_and_a_thousand_steps_are_left() -> None:
    found = scaled(SMALL, BudgetSpec(), None, 10**9)
    assert found is not None
    assert found.flops < 1e12
    assert found.learning_rate == pytest.approx(peak_rate(1e17)) == pytest.approx(0.3118 * 10**-2.125)
    assert found.train.num_steps(1, 32) >= 1000 > found.train.num_steps(1, 32) / 2
    assert scaled(SMALL, BudgetSpec(num_tokens=10), None, None).train.batch_rows == 1  # type: ignore[union-attr]


def test_what_is_set_is_kept_and_the_rest_follows_from_it() -> None:
    budget = BudgetSpec(batch_rows=3, num_tokens=9600, eval_every_steps=7)
    found = scaled(LARGE, budget, 0.5, 10**12)
    assert found is not None
    assert found.train == TrainSpec(batch_rows=3, num_tokens=9600, eval_every_steps=7)
    assert (found.learning_rate, found.flops) == (0.5, hidden_flops_per_token(LARGE) * 9600)
    passes = scaled(SMALL, BudgetSpec(num_epochs=1.5), None, 1001)
    assert passes is not None
    assert (passes.budget_tokens, passes.train.num_epochs, passes.train.num_tokens) == (1502, 1.5, None)


def test_a_model_may_be_asked_for_by_its_weights() -> None:
    depths = {depth: ModelSpec(depth=depth).num_matrix_weights for depth in range(1, 25)}
    found = ModelSpec(num_parameters=100_000_000)
    assert found.depth == min(depths, key=lambda depth: abs(depths[depth] - 100_000_000)) == 13
    assert found == ModelSpec.model_validate(found.model_dump())
    assert ModelSpec(num_parameters=10 * WEIGHTS // 2, **SMALL.model_dump(exclude={"depth", "num_parameters"})).depth == 10
    with pytest.raises(ValidationError, match=r"num_parameters\n.*greater than or equal to 1"):
        ModelSpec(num_parameters=0)
    with pytest.raises(ValidationError, match="width 100"):
        ModelSpec(num_parameters=1000, width=100, num_heads=3)


def test_plan_says_what_was_set_and_what_was_derived() -> None:
    spec = PretrainSpec(model=SMALL, train=BudgetSpec(batch_rows=3))
    open_line = scale_line(spec, None)
    assert f": {20 * WEIGHTS:,} tokens (derived), 3 rows a step (set), learning rate 0.00234 (derived)" in open_line
    assert open_line.endswith(", or 4 passes over less text")
    passes = PretrainSpec(model=SMALL, train=BudgetSpec(num_epochs=2))
    assert "2 passes over the text; what is not set is known after encode" in scale_line(passes, None)
    line = scale_line(spec, scaled(spec.model, spec.train, None, 50_000))
    assert line.startswith(f"scale     {WEIGHTS / 1e6:,.2f} M hidden weights, ")
    assert line.endswith(": 200,000 tokens (derived), 3 rows a step (set), learning rate 0.00234 (derived)")


def test_a_training_is_told_every_number_and_its_checkpoint_records_them(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = toy_tokenizer.build(ToySpec(), site=site)
    corpus = toy_tokens.build(ToySpec(size=4), tokenizer, site=site)
    jobs: list[PretrainJob] = []
    looks = BudgetSpec(eval_every_steps=1000, checkpoint_every_steps=1000)
    spec = PretrainSpec(model=SMALL, train=looks, optim=AdamWSpec(kind="adamw"), precision="fp32")
    monkeypatch.setattr("tasks.pretrain.PretrainJob", lambda **told: jobs.append(PretrainJob(**told)) or jobs[-1])
    two = site.model_copy(update={"num_processes": 2})
    with pytest.raises(RecipeError, match=r"^pretrain\.train\.batch_rows 1 cannot be divided among 2 processes"), in_process():
        pretrain.build(spec, corpus, tokenizer, no_base(site), site=two)
    assert not jobs, "it is derived, and refused before the child starts"
    with in_process():
        made = pretrain.build(spec, corpus, tokenizer, no_base(site), site=site)
    budget = 4 * corpus.tokens_by_split["train"]
    assert (jobs[0].train.num_tokens, jobs[0].train.batch_rows, jobs[0].optim.learning_rate) == (budget, 1, peak_rate(1e17))
    recorded = read_manifest(made.path).facts["figures"]
    assert (recorded["budget_tokens"], recorded["batch_rows"]) == (budget, 1)
    assert recorded["learning_rate"] == peak_rate(1e17)
    assert read_manifest(made.path).spec["optim"]["learning_rate"] is None
    assert not any("read" in warning for warning in made.warnings)
