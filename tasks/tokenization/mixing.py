"""Mix: the training tokens follow weights, by source and language; other splits stay as they are.

In: `TokenizedCorpus`. Out: `TokenizedCorpus` whose training shards hold each part as often as its weight asks, or the corpus
itself where nothing is mixed. Invariants: documents stay whole; each pass over a part takes every document once, the last one
some drawn by seed; the order hangs on ids and seed alone; a shard that is written is not written again after an interruption.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts import TokenizedCorpus
from tasks.core.artifact import EXTRA_DIR
from tasks.core.errors import ContractError
from tasks.core.shards import SUFFIX, Tokens, open_shard, shard_name, shard_paths, write_shard
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.tables import Row, read_rows, write_table
from tasks.tokenization.diversity import diversity, draw_mixture, growth, source_entropy
from tasks.tokenization.specs import MixSpec, NoMix, Weight, WeightedMix

DOCUMENTS = {"id": "string", "lang": "string", "source": "string", "num_tokens": "int64", "num_bytes": "int64"}

_SHARD_TOKENS = 50_000_000
_ALLOWED_POINTS = 0.5
_SAMPLE_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """A document of the training split, and where its tokens lie."""

    row: Row
    shard: int
    start: int

    @property
    def num_tokens(self) -> int:
        """Tokens, end of text included."""
        return int(self.row["num_tokens"])


def _is_off(spec: Any) -> bool:
    return isinstance(spec.method, NoMix)


@stage(version=1, name="mix", retry=DISK, packages=("numpy", "pyarrow"), passes=_is_off)
def mix(spec: MixSpec, corpus: TokenizedCorpus, *, ctx: StageContext) -> TokenizedCorpus:
    """Writes the training split anew, each part of it as often as its weight asks.

    Raises:
        ContractError: A weight fits no document, a document fits no weight, or no document fits the budget of a weight.
    """
    method = spec.method
    assert isinstance(method, WeightedMix)
    shards = [open_shard(path, corpus.tokenizer_digest) for path in shard_paths(corpus.path, "train")]
    before = list(_parts(corpus, shards))
    groups = _grouped(method.weights, before)
    total = method.num_tokens or sum(part.num_tokens for part in before)
    shares = _shares(method.weights)
    mixed = _ordered(
        [
            (number, part)
            for name, parts in groups.items()
            for number, part in drawn(parts, round(total * shares[name]), method.seed)
        ],
        method.seed,
    )
    _write(mixed, shards, corpus, ctx)
    figures = mixture(shares, groups, mixed, method.weights)
    streams = {"before": _beginning(before, shards), "mixed": _beginning(mixed, shards)}
    draw_mixture(figures, {name: growth(stream) for name, stream in streams.items()}, ctx.dir / EXTRA_DIR / "mixture.svg")
    warnings = _warnings(figures, method.max_epochs)
    for warning in warnings:
        ctx.log.warning("%s", warning)
    variety, length = {"before": before, "mixed": mixed}, min(map(len, streams.values()))
    return ctx.commit(
        TokenizedCorpus,
        **corpus.facts()
        | _counted(corpus, mixed)
        | {"warnings": (*corpus.warnings, *warnings), "mixture": figures}
        | {"diversity": _flat({name: _diversity(parts, streams[name], length) for name, parts in variety.items()})},
    )


def _parts(corpus: TokenizedCorpus, shards: Sequence[Tokens]) -> Iterator[Part]:
    """Yields the documents in the order of their tokens; a shard holds whole documents."""
    shard, start = 0, 0
    for row in read_rows(corpus.path / "documents-train.parquet"):
        if start == len(shards[shard]):
            shard, start = shard + 1, 0
        yield Part(row, shard, start)
        start += row["num_tokens"]


def _grouped(weights: Sequence[Weight], parts: Sequence[Part]) -> dict[str, list[Part]]:
    groups: defaultdict[str, list[Part]] = defaultdict(list)
    for part in parts:
        found = next((one for one in weights if one.fits(part.row)), None)
        if found is None:
            raise ContractError(
                f"mix: documents of source {part.row['source']} in {part.row['lang']} fit no weight; add one (0 leaves them out)"
            )
        groups[found.name].append(part)
    if empty := [one.name for one in weights if one.name not in groups]:
        raise ContractError(f"mix: no training document fits the weight of {empty[0]!r}; mend its source and language")
    return dict(groups)


def _shares(weights: Sequence[Weight]) -> dict[str, float]:
    total = sum(one.weight for one in weights)
    return {one.name: one.weight / total for one in weights}


def drawn(parts: Sequence[Part], budget: int, seed: int) -> Iterator[tuple[int, Part]]:
    """Yields documents with the number of their pass: whole passes, then those of the last one that still fit.

    Raises:
        ContractError: Not even the shortest document fits the budget.
    """
    size = sum(part.num_tokens for part in parts)
    passes, left = divmod(budget, size)
    for number in range(passes):
        yield from ((number, part) for part in parts)
    taken = passes * len(parts)
    for part in sorted(parts, key=lambda part: _place(seed, passes, part)):
        if part.num_tokens <= left:
            left -= part.num_tokens
            taken += 1
            yield passes, part
    if budget and not taken:
        raise ContractError(
            f"mix: no document of source {parts[0].row['source']} is as short as the {budget} tokens it is to give; "
            "raise its weight or mix.method.num_tokens"
        )


def _ordered(chosen: Sequence[tuple[int, Part]], seed: int) -> list[Part]:
    """Shuffles all passes of all groups into each other."""
    return [part for _, part in sorted(chosen, key=lambda item: _place(seed, *item))]


def _place(seed: int, number: int, part: Part) -> tuple[bytes, str, int]:
    digest = blake2b(f"{seed}:{number}:{part.row['id']}".encode(), digest_size=8).digest()
    return digest, part.row["id"], number


def _tokens(part: Part, shards: Sequence[Tokens]) -> Tokens:
    tokens: Tokens = shards[part.shard][part.start : part.start + part.num_tokens]
    return tokens


def _write(mixed: Sequence[Part], shards: Sequence[Tokens], corpus: TokenizedCorpus, ctx: StageContext) -> None:
    """Writes the training shards and copies the other splits."""
    cut = list(_cut(mixed))
    for number, some in enumerate(cut):
        path = ctx.dir / shard_name("train", number)
        if not path.exists():
            write_shard(path, (_tokens(part, shards) for part in some), corpus.tokenizer_digest)
        ctx.progress(number + 1, len(cut), "shards")
    write_table(ctx.dir / "documents-train.parquet", DOCUMENTS, (part.row for part in mixed))
    for path in sorted(corpus.path.iterdir()):
        if not path.name.startswith(("train-", "documents-train")) and _is_split(path):
            shutil.copyfile(path, ctx.dir / path.name)


def _is_split(path: Path) -> bool:
    return path.suffix == SUFFIX or path.name.startswith("documents-")


def _cut(mixed: Sequence[Part]) -> Iterator[list[Part]]:
    shard: list[Part] = []
    num_tokens = 0
    for part in mixed:
        shard.append(part)
        num_tokens += part.num_tokens
        if num_tokens >= _SHARD_TOKENS:
            yield shard
            shard, num_tokens = [], 0
    if shard:
        yield shard


def mixture(
    shares: Mapping[str, float], groups: Mapping[str, Sequence[Part]], mixed: Sequence[Part], weights: Sequence[Weight]
) -> dict[str, float]:
    """Returns what was asked and what came out of each part: shares of tokens, tokens, passes."""
    got: Counter[str] = Counter()
    for part in mixed:
        got[next(one.name for one in weights if one.fits(part.row))] += part.num_tokens
    sizes = {name: sum(part.num_tokens for part in parts) for name, parts in groups.items()}
    figures: dict[str, float] = {}
    for name, share in shares.items():
        figures |= {
            f"{name}/share_before": sizes[name] / sum(sizes.values()),
            f"{name}/share_asked": share,
            f"{name}/share": got[name] / max(1, got.total()),
            f"{name}/tokens": got[name],
            f"{name}/epochs": got[name] / sizes[name],
        }
    return {name: round(value, 6) for name, value in figures.items()}


def _warnings(figures: Mapping[str, float], max_epochs: float) -> list[str]:
    warnings = []
    for name in dict.fromkeys(key.rsplit("/", 1)[0] for key in figures):
        asked, share, epochs = (figures[f"{name}/{what}"] for what in ("share_asked", "share", "epochs"))
        if abs(asked - share) * 100 > _ALLOWED_POINTS:
            warnings.append(
                f"{name} is {share:.1%} of the training tokens, {asked:.1%} were asked for: too few tokens for its documents"
            )
        if epochs > max_epochs:
            warnings.append(
                f"{name} is read {epochs:.1f} times a pass over the mixture, more than {max_epochs:g}; lower its weight"
            )
    return warnings


def _counted(corpus: TokenizedCorpus, mixed: Sequence[Part]) -> dict[str, Any]:
    by_language = Counter(corpus.tokens_by_language)
    for row in read_rows(corpus.path / "documents-train.parquet", ["lang", "num_tokens"]):
        by_language[row["lang"]] -= row["num_tokens"]
    for part in mixed:
        by_language[part.row["lang"]] += part.num_tokens
    return {
        "tokens_by_split": corpus.tokens_by_split | {"train": sum(part.num_tokens for part in mixed)},
        "bytes_by_split": corpus.bytes_by_split | {"train": sum(part.row["num_bytes"] for part in mixed)},
        "documents_by_split": corpus.documents_by_split | {"train": len(mixed)},
        "tokens_by_language": dict(sorted(by_language.items())),
    }


def _beginning(parts: Sequence[Part], shards: Sequence[Tokens]) -> Tokens:
    """Returns the first tokens of a stream, up to a fixed number."""
    found, num_tokens = [], 0
    for part in parts:
        found.append(_tokens(part, shards))
        num_tokens += part.num_tokens
        if num_tokens >= _SAMPLE_TOKENS:
            break
    return np.concatenate(found)[:_SAMPLE_TOKENS]


def _diversity(parts: Sequence[Part], stream: Tokens, num_tokens: int) -> dict[str, float]:
    tokens: Counter[str] = Counter()
    for part in parts:
        tokens[part.row["source"]] += part.num_tokens
    return diversity(stream[:num_tokens]) | {"source_entropy_bits": round(source_entropy(tokens), 4)}


def _flat(nested: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{name}/{what}": value for name, figures in nested.items() for what, value in figures.items()}
