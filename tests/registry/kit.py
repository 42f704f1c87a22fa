"""Small real inputs for registry and roll-out: a random two-layer chat model, and the artifacts of a chain around it.

In: a site and a seed. Out: committed artifacts that fit together. Invariant: another seed is another model, with other digests
and other answers.
"""

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from data_quality.drift import profile_of, write_profile
from data_quality.profile import TABLES
from tasks.contracts import Checkpoint, CleanCorpus, Conversations, EvalReport, Interval, QualityReport, Verdict
from tasks.core.artifact import Artifact
from tasks.core.fingerprint import fingerprint
from tasks.core.run import Run, StageRecord, running
from tasks.core.site import Site
from tasks.core.store import Manifest, Store, content_digest, list_files
from tasks.core.tracking import champion
from tasks.core.tracking.client import experiment_id, mlflow_client
from tasks.registry import RegisterSpec, register_model

A = TypeVar("A", bound=Artifact)

SPECIALS = ["<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|pad|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["the quick brown fox jumps over the lazy dog", "今天天气很好，我们去公园散步", "list the files of a directory with ls"]


def save_model(folder: Path, seed: int, family: str = "llama") -> None:
    """Writes a `transformers` chat model of random weights, as pretraining would."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(TEXTS * 5, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>", "<|endoftext|>"],
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
    }
    model = LlamaForCausalLM(LlamaConfig(**sizes)) if family == "llama" else Qwen3ForCausalLM(Qwen3Config(head_dim=16, **sizes))
    model.generation_config = GenerationConfig(eos_token_id=[1, 0], pad_token_id=3, do_sample=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@lru_cache
def cached_model(seed: int, family: str) -> Path:
    """Returns a folder with a model of this seed, made once a session."""
    folder = Path(tempfile.mkdtemp(prefix="textmill-test-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save_model(folder / "model", seed, family)
    return folder / "model"


def commit(site: Site, kind: type[A], name: str, spec: dict[str, Any], **facts: Any) -> A:
    """Commits what was written to `partial(site, kind, name)` as an artifact; one that is there already stays."""
    store, number = Store(site.store_dir), fingerprint([kind.kind(), name])
    folder = store.partial(kind.kind(), number)
    if (there := store.folder(kind.kind(), number)).exists():
        shutil.rmtree(folder)
        return store.load(kind, there)
    files = list_files(folder)
    manifest = Manifest(
        kind=kind.kind(),
        schema_version=kind.schema_version,
        fingerprint=number,
        digest=content_digest(kind.kind(), kind.schema_version, files),
        stage=name,
        stage_version=1,
        label="test",
        spec=spec,
        inputs={},
        versions={},
        code_hash="",
        facts=kind(uri="", fingerprint="", digest="", **facts).facts(),
        files=files,
        provenance={},
    )
    return store.load(kind, store.commit(manifest, folder))


def partial(site: Site, kind: type[Artifact], name: str) -> Path:
    """Returns the folder to write an artifact's files to."""
    folder = Store(site.store_dir).partial(kind.kind(), fingerprint([kind.kind(), name]))
    folder.mkdir(parents=True)
    return folder


@dataclass(frozen=True)
class Chain:
    """What the stages before registration made."""

    base: Checkpoint
    tuned: Checkpoint
    report: EvalReport
    verdict: Verdict
    quality: QualityReport
    corpus: CleanCorpus
    conversations: Conversations

    @property
    def inputs(self) -> tuple[Artifact, ...]:
        """The inputs of `register_model`, in order."""
        return self.base, self.tuned, self.report, self.verdict, self.quality, self.corpus, self.conversations


@dataclass(frozen=True)
class KnownRun:
    """A tracker whose MLflow run is there already: starting one takes seconds."""

    known: str

    def run_id(self, wait_s: float) -> str | None:
        """Returns the run."""
        return self.known


def register(site: Site, chain: Chain, name: str = "toy", **settings: Any) -> StageRecord:
    """Registers the chain's model within an MLflow run, judged against the champion of the moment."""
    return register_as_judged(site, judged_again(site, chain, name), name, **settings)


def register_as_judged(site: Site, chain: Chain, name: str = "toy", **settings: Any) -> StageRecord:
    """Registers the chain's model with the report it has, whoever is champion by now."""
    with running(Run(site, "toy-recipe", tracker=KnownRun(_mlflow_run(site)))):
        return register_model.outcome(RegisterSpec(name=name, **settings), *chain.inputs, site=site)


def judged_again(site: Site, chain: Any, name: str = "toy") -> Any:
    """Returns a chain with a report that compares with the champion; a model that is champion keeps the one it has."""
    current = champion(site, name)
    if current is None or current.digest in (chain.tuned.digest, chain.report.champion_digest):
        return chain
    report = _report(site, f"{chain.tuned.digest[:8]}-{str(current.digest)[:8]}", chain.base, chain.tuned, current.digest)
    return replace(chain, report=report)


def _mlflow_run(site: Site) -> str:
    client, experiment = mlflow_client(site), experiment_id(site)
    runs = client.search_runs([experiment], max_results=1) or [client.create_run(experiment)]
    return str(runs[0].info.run_id)


def make_chain(
    site: Site, seed: int, *, passed: bool = True, family: str = "llama", base: Checkpoint | None = None, method: Any = None
) -> Chain:
    """Makes the artifacts of one run; `seed` makes the tuned model, an adapter where `method` does not merge."""
    base = base or _checkpoint(site, f"base-{seed}", seed + 1_000, family, None)
    tuned = _adapter(site, seed, base, method) if method else _checkpoint(site, f"tuned-{seed}", seed, family, base.digest)
    corpus = _corpus(site, seed)
    conversations = _conversations(site, seed)
    quality = _quality(site, seed, corpus)
    report = _report(site, str(seed), base, tuned)
    return Chain(base, tuned, report, make_verdict(site, f"verdict-{seed}", tuned, passed), quality, corpus, conversations)


def make_verdict(site: Site, name: str, tuned: Checkpoint, passed: bool) -> Verdict:
    """Makes a verdict on a model."""
    folder = partial(site, Verdict, name)
    (folder / "verdict.json").write_text(json.dumps({"name": name, "passed": passed}))
    reasons = ("answer_loss: asked below 0, seen -0.500 [-0.600, -0.400]: " + ("yes" if passed else "no"),)
    return commit(site, Verdict, name, {}, passed=passed, tuned_digest=tuned.digest, reasons=reasons)


def _checkpoint(site: Site, name: str, seed: int, family: str, base_digest: str | None) -> Checkpoint:
    folder = partial(site, Checkpoint, name)
    shutil.copytree(cached_model(seed, family), folder / "model")
    if base_digest:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"r": 8, "seed": seed}))
    return _commit_checkpoint(site, name, "lora" if base_digest else "pretrain", base_digest)


def _adapter(site: Site, seed: int, base: Checkpoint, method: Any) -> Checkpoint:
    """Puts random weights where the method would train, and keeps them as tuning does."""
    import torch

    from tasks.modeling.adapted import bind, put_together
    from tasks.modeling.model import load_model

    name = f"adapter-{seed}"
    folder, plain = partial(site, Checkpoint, name), base.path / "model"
    prepared = method.prepare(load_model(plain), seed)
    for weight in prepared.model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=2 / prepared.model.config.hidden_size**0.5)
    adapter = folder / "adapter"
    merged = prepared.finish(adapter)
    bind(adapter, plain, base.digest)
    if merged is None:
        put_together(plain, adapter, folder / "model")
        shutil.rmtree(adapter)
    else:
        shutil.copytree(plain, folder / "model")
        merged.save_pretrained(folder / "model")
    return _commit_checkpoint(site, name, method.kind, base.digest)


def _commit_checkpoint(site: Site, name: str, method: str, base_digest: str | None) -> Checkpoint:
    facts: dict[str, Any] = {
        "method": method,
        "tokenizer_digest": "t" * 64,
        "base_digest": base_digest,
        "num_parameters": 100_000,
        "num_trained_parameters": 5_000 if base_digest else 100_000,
        "num_steps": 10,
        "num_tokens": 12_345,
        "precision": "fp32",
        "train_loss": 2.0,
        "validation_loss": 2.5,
        "warnings": ("validation has only 3 documents | a <b> [of](its own)",),
    }
    return commit(site, Checkpoint, name, {"learning_rate": 0.001, "model": {"depth": 2}}, **facts)


def _corpus(site: Site, seed: int) -> CleanCorpus:
    folder = partial(site, CleanCorpus, f"corpus-{seed}")
    (folder / "documents").mkdir()
    rows = {
        "id": [f"a{seed}", "b", "c"],
        "source": ["handbook", "handbook", "poems"],
        "licence": ["CC-BY-SA-3.0", "CC-BY-SA-3.0", "MIT"],
        "lang": ["en", "en", "zh"],
        "text": TEXTS,
        "split": ["train", "test", "train"],
    }
    pq.write_table(pa.table(rows), folder / "documents" / "00000.parquet")
    facts: dict[str, Any] = {
        "num_documents_in": 9,
        "num_documents": 3,
        "num_bytes": 120,
        "removed_by_reason": {"exact": 1},
        "contaminated_by_reason": {"answer": 3, "ngram": 2},
        "marked_by_reason": {"ngram": 1},
        "documents_by_split": {"train": 2, "test": 1},
        "documents_by_language": {"en": 2, "zh": 1},
        "documents_by_source": {"handbook": 2, "poems": 1},
    }
    return commit(site, CleanCorpus, f"corpus-{seed}", {"near": 0.8}, **facts)


def _conversations(site: Site, seed: int) -> Conversations:
    (partial(site, Conversations, f"conversations-{seed}") / "conversations.jsonl").write_text("{}\n")
    spec = {"train": [{"name": "commands", "licence": "MIT"}], "heldout": [{"name": "heldout", "licence": "GPL-2.0"}]}
    facts: dict[str, Any] = {
        "num_items_in": 3,
        "num_items": 3,
        "dropped_by_reason": {},
        "items_by_split": {"train": 2, "test": 1},
        "items_by_source": {"commands": 2, "heldout": 1},
    }
    return commit(site, Conversations, f"conversations-{seed}", spec, **facts)


def _quality(site: Site, seed: int, corpus: CleanCorpus) -> QualityReport:
    folder = partial(site, QualityReport, f"quality-{seed}")
    (folder / "results.json").write_text("[]")
    write_profile(folder / "profile", profile_of([document(place, seed) for place in range(20)]))
    facts: dict[str, Any] = {"passed": True, "num_checks": 7, "failures": (), "warnings": ("few documents in zh",)}
    return commit(site, QualityReport, f"quality-{seed}", {}, corpus_digest=corpus.digest, **facts)


def document(place: int, seed: int) -> dict[str, Any]:
    """Returns a row of the table of clean documents; those of another seed are longer."""
    row: dict[str, Any] = dict.fromkeys(TABLES["documents"], 0) | {"lang": "zh" if place % 2 else "en", "source": "s"}
    return row | {"split": "train", "num_chars": 100 * seed + place}


def _report(site: Site, name: str, base: Checkpoint, tuned: Checkpoint, champion_digest: str | None = None) -> EvalReport:
    (partial(site, EvalReport, f"report-{name}") / "comparison.json").write_text(json.dumps({"name": name}))
    facts: dict[str, Any] = {
        "metrics": {"tuned/answer_loss": Interval(mean=2.5, low=2.4, high=2.6, num_items=20)},
        "differences": {"base/answer_loss": Interval(mean=-0.5, low=-0.6, high=-0.4, num_items=20)},
        "champion_digest": champion_digest,
    }
    spec = {"bootstrap": {"confidence": 0.9}}
    return commit(site, EvalReport, f"report-{name}", spec, base_digest=base.digest, tuned_digest=tuned.digest, **facts)
