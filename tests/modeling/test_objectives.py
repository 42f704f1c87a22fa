"""Objectives by hand: what is hidden, what is a target, what comes back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.core.errors import ContractError
from tasks.modeling import train
from tasks.modeling.batches import IGNORED, make_batch
from tasks.modeling.held_out import held_out_figures
from tasks.modeling.job import PretrainJob, ReplayJob
from tasks.modeling.model import build_model
from tasks.modeling.objectives import (
    CausalSpec,
    FillInTheMiddleSpec,
    MaskedNextSentenceSpec,
    MaskedSpec,
    SpanCorruptionSpec,
    TextInfillingSpec,
)
from tasks.modeling.objectives.fill_in_the_middle import rearrange
from tasks.modeling.objectives.masked import choose
from tasks.modeling.objectives.masked_next_sentence import IS_NEXT, IS_OTHER, passage_of, targets_of_pairs
from tasks.modeling.objectives.span_corruption import corrupt, noise_spans, random_parts, shift
from tasks.modeling.objectives.text_infilling import infill, place_spans, span_lengths
from tasks.modeling.specs import ModelSpec
from tasks.modeling.text import Document, TokenText
from tasks.modeling.words import load_tokenizer, role_ids, special_ids
from tests.modeling.kit import EXTRA, SPECIAL, save_tokenizer

CPU = torch.device("cpu")
MASKED = MaskedSpec(kind="masked")
PAIRS = MaskedNextSentenceSpec(kind="masked_next_sentence")
SPANS = SpanCorruptionSpec(kind="span_corruption", num_sentinels=12)
INFILL = TextInfillingSpec(kind="text_infilling")
MIDDLE = FillInTheMiddleSpec(kind="fill_in_the_middle")
SENTENCES = (
    "The model reads text. ",
    "It answers short questions! ",
    "文件在目录中。",
    "命令列出内容。",
    "Files are about the text.\n",
)


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("coder")
    save_tokenizer(folder, extra=list(EXTRA.values()))
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def text(coder: Any) -> TokenText:
    """Forty documents of one to eight sentences, each sentence with a number of its own."""
    random = np.random.default_rng(0)
    documents, tokens = [], []
    for number in range(40):
        chosen = random.integers(len(SENTENCES), size=int(random.integers(1, 9)))
        body = "".join(f"{number + 10} {SENTENCES[one]}" for one in chosen)
        ids = [*coder.encode(body), 0]
        documents.append(Document(("en", "zh")[number % 2], len(tokens), len(ids), len(body.encode())))
        tokens += ids
    special = SPECIAL | EXTRA
    return TokenText(
        shards=[np.array(tokens, dtype=np.uint16)],
        documents=documents,
        special=special_ids(coder, special),
        roles=role_ids(coder, special, EXTRA),
        tokenizer=coder,
        vocab_size=len(coder),
        context_tokens=64,
        seed=5,
    )


def model_for(objective: Any, family: str, text: TokenText) -> Any:
    spec = ModelSpec(family=family, depth=1, width=32, num_heads=2, ffn_width=64, context_tokens=64)
    return build_model(spec, text.vocab_size, text.special, 3, objective.auto_class, text.roles)


def num_parts(row: Any) -> int:
    """Parts of a row; padding, where there is some, is a segment of its own behind them."""
    last = row.segments_T == row.segments_T.max()
    return int(row.segments_T.max()) + int((row.targets_T[last] != IGNORED).any())


def parts_of(row: Any) -> list[tuple[list[int], list[int]]]:
    """Ids and targets of each part of a row, padding left out."""
    return [
        (row.ids_T[row.segments_T == number].tolist(), row.targets_T[row.segments_T == number].tolist())
        for number in range(num_parts(row))
    ]


# -- masked ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask_share", "random_share", "becomes"), [(1.0, 0.0, "mask"), (0.0, 1.0, "random"), (0.0, 0.0, "kept")]
)
def test_targets_stand_on_the_chosen_tokens_whatever_their_input_becomes(
    text: TokenText, mask_share: float, random_share: float, becomes: str
) -> None:
    spec = MASKED.model_copy(update={"mask_share": mask_share, "random_share": random_share})
    ids = np.tile(text.text_ids, 8)
    hidden, targets = spec.hide(text, ids, "en", np.random.default_rng(0))
    is_chosen = targets != IGNORED
    assert is_chosen.sum() == round(0.15 * len(ids))
    assert (targets[is_chosen] == ids[is_chosen]).all(), "the label is the text, also under a random token"
    assert (hidden[~is_chosen] == ids[~is_chosen]).all()
    if becomes == "mask":
        assert (hidden[is_chosen] == text.roles["mask"]).all()
    elif becomes == "kept":
        assert (hidden == ids).all()
    else:
        assert np.isin(hidden[is_chosen], text.text_ids).all(), "no special token comes by chance"
        assert (hidden[is_chosen] != ids[is_chosen]).mean() > 0.98


def test_eighty_ten_ten(text: TokenText) -> None:
    ids = np.tile(text.text_ids, 400)
    hidden, targets = MASKED.hide(text, ids, "en", np.random.default_rng(1))
    is_chosen = targets != IGNORED
    is_mask = hidden[is_chosen] == text.roles["mask"]
    is_kept = hidden[is_chosen] == ids[is_chosen]
    assert is_mask.mean() == pytest.approx(0.8, abs=0.01)
    assert is_kept.mean() == pytest.approx(0.1, abs=0.01)


def test_special_tokens_and_padding_are_never_chosen(text: TokenText) -> None:
    ids = np.array([*text.text_ids[:10], text.roles["sep"], text.special.pad, text.special.end_of_text])
    for seed in range(50):
        _, targets = MASKED.model_copy(update={"share": 0.9}).hide(text, ids, "en", np.random.default_rng(seed))
        assert (targets[10:] == IGNORED).all()
        assert (targets[:10] != IGNORED).sum() == 9
    rows = MASKED.rows(text)
    for index in range(rows.num_rows):
        row = rows.row(index)
        is_edge = np.isin(row.ids_T, [text.roles["cls"], text.roles["sep"], text.special.pad])
        assert is_edge.any()
        assert (row.targets_T[is_edge] == IGNORED).all()


def test_where_nothing_may_be_hidden_nothing_is(text: TokenText) -> None:
    _, targets = MASKED.hide(text, np.array([text.roles["sep"]] * 4), "en", np.random.default_rng(0))
    assert (targets == IGNORED).all()


def test_masks_are_fresh_on_each_pass_and_a_function_of_seed_pass_and_row(text: TokenText) -> None:
    rows, again = MASKED.rows(text), MASKED.rows(text)
    other = MASKED.rows(replace(text, seed=6))
    later = [again.row(index + 3 * again.num_rows) for index in reversed(range(again.num_rows))][::-1]  # in another order
    for index in range(rows.num_rows):
        first, fourth = rows.row(index), rows.row(index + 3 * rows.num_rows)
        assert not np.array_equal(first.targets_T, fourth.targets_T)
        assert np.array_equal(fourth.targets_T, later[index].targets_T)
        assert np.array_equal(fourth.ids_T, later[index].ids_T)
        assert not np.array_equal(first.targets_T, other.row(index).targets_T)


def test_whole_words_are_chosen_as_a_whole() -> None:
    starts = np.array([0, 3, 4, 8])  # words of 3, 1, 4 and 2 tokens
    for seed in range(40):
        chosen = choose(np.ones(10, dtype=bool), starts, 0.4, np.random.default_rng(seed))
        groups = [chosen[start:stop] for start, stop in zip([0, 3, 4, 8], [3, 4, 8, 10], strict=True)]
        assert all(group.all() or not group.any() for group in groups)
        assert 2 <= chosen.sum() <= 4  # never more than was asked for


def test_whole_words_change_what_is_hidden(text: TokenText) -> None:
    whole = MASKED.model_copy(update={"whole_words": True})
    ids = text.ids(text.pieces(60)[3])
    names = [text.token_bytes[id] for id in ids]
    for seed in range(20):
        _, targets = whole.hide(text, ids, "en", np.random.default_rng(seed))
        for place in range(1, len(ids)):
            if not names[place].startswith((b" ", b"\n")) and not names[place - 1].endswith((b" ", b"\n")):
                assert (targets[place] == IGNORED) == (targets[place - 1] == IGNORED)


def test_whole_words_are_those_of_jieba_in_chinese_and_runs_without_space_elsewhere(text: TokenText, coder: Any) -> None:
    whole = MASKED.model_copy(update={"whole_words": True, "share": 0.4})
    files, folder = ([one for char in word for one in coder.encode(char)] for word in ("我们", "喜欢"))
    hidden = {
        lang: {
            tuple((whole.hide(text, np.array(files + folder), lang, np.random.default_rng(seed))[1] != IGNORED).tolist())
            for seed in range(30)
        }
        for lang in ("zh", "en")
    }
    first, second = [True] * len(files) + [False] * len(folder), [False] * len(files) + [True] * len(folder)
    assert len(files) > 2, "a word lies in several tokens"
    assert hidden == {"zh": {tuple(first), tuple(second)}, "en": {tuple([True] * len(files + folder))}}


def test_shares_beyond_the_whole_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"0\.8 and random_share 0\.3 are more than 1"):
        MaskedSpec(kind="masked", random_share=0.3)


# -- masked and next sentence ---------------------------------------------------------------------------------------


def test_half_of_the_pairs_are_adjacent_and_the_label_says_which(text: TokenText) -> None:
    spec = PAIRS.model_copy(update={"mask_share": 0.0, "random_share": 0.0})  # chosen tokens stay as they are
    rows = spec.rows(text)
    bodies = [bytes(text.read(one.start, one.num_tokens - 1).astype(">u2").tobytes()) for one in text.documents]
    cls, sep = text.roles["cls"], text.roles["sep"]
    seen, num_by_chance = {IS_NEXT: 0, IS_OTHER: 0}, 0
    for index in range(rows.num_rows * 6):
        row = rows.row(index)
        for number in range(num_parts(row)):
            here = row.segments_T == number
            ids, types, labels = row.ids_T[here], row.types_T[here], row.labels_T[here]
            assert ids[0] == cls
            assert ids[-1] == sep
            cut = int(np.flatnonzero(ids == sep)[0])
            assert types.tolist() == [0] * (cut + 1) + [1] * (len(ids) - cut - 1)
            assert (labels[1:] == IGNORED).all()
            first, second = ids[1:cut], ids[cut + 1 : -1]
            joined = bytes(np.concatenate([first, second]).astype(">u2").tobytes())
            is_adjacent = any(joined in body for body in bodies)
            assert is_adjacent or labels[0] == IS_OTHER
            num_by_chance += int(is_adjacent and labels[0] == IS_OTHER)
            seen[int(labels[0])] += 1
    assert num_by_chance < 0.2 * seen[IS_OTHER], "an end of a sentence stands in many documents, so some fit by chance"
    assert seen[IS_NEXT] / sum(seen.values()) == pytest.approx(0.5, abs=0.1)


class Label:
    """Random numbers of which the single one, which chooses the kind of a pair, is given."""

    def __init__(self, seed: int, value: float) -> None:
        self._random, self._value = np.random.default_rng(seed), value

    def random(self, *size: int) -> Any:
        return self._random.random(*size) if size else self._value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._random, name)


@pytest.mark.parametrize("num_documents", [40, 4])
def test_length_does_not_tell_what_follows(text: TokenText, num_documents: int) -> None:
    part = replace(text, documents=text.documents[:num_documents])
    every = [passage_of(part, piece) for piece in part.pieces(61)]
    pairs = [passage for passage in every if len(passage.starts) > 1]
    num_whole = 0
    for seed, passage in enumerate(pairs * 5):
        other, following = (PAIRS._pair(part, passage, every, Label(seed, value)) for value in (0.0, 1.0))
        assert (other.labels[0], following.labels[0]) == (IS_OTHER, IS_NEXT)
        assert len(other.ids) == len(following.ids)
        num_whole += len(following.ids) == passage.piece.num_tokens + 3
    assert num_whole > 0.9 * 5 * len(pairs), "what has room is not shortened"


def test_the_loss_is_the_masked_loss_plus_the_next_sentence_loss(text: TokenText) -> None:
    model = model_for(PAIRS, "bert", text).eval()
    rows = PAIRS.rows(text)
    index = next(index for index in range(rows.num_rows) if (rows.row(index).labels_T != IGNORED).sum() == 1)
    row, batch = rows.row(index), make_batch(rows, np.array([index]), CPU)
    length = int((row.segments_T == 0).sum())
    losses, figures = PAIRS.loss(model, batch) / batch.num_targets, PAIRS.figures(model, batch)
    model.set_attn_implementation("eager")
    made = model(
        input_ids=torch.from_numpy(row.ids_T[None, :length]), token_type_ids=torch.from_numpy(row.types_T[None, :length])
    )
    masked = F.cross_entropy(made.prediction_logits[0], torch.from_numpy(row.targets_T[:length]), ignore_index=IGNORED)
    pair = F.cross_entropy(made.seq_relationship_logits, torch.tensor([row.labels_T[0]]))
    assert losses.tolist() == pytest.approx([masked.item(), pair.item()], rel=1e-5)
    assert figures["loss"][0] / figures["loss"][1] == pytest.approx(masked.item(), rel=1e-5)
    assert figures["next_sentence_loss"] == (pytest.approx(pair.item(), rel=1e-5), 1)


def test_each_pair_counts_by_its_targets(text: TokenText) -> None:
    batch = make_batch(PAIRS.rows(text), np.array([0]), CPU)
    one = replace(
        batch,
        targets_BT=torch.tensor([[IGNORED, 7, IGNORED, IGNORED, 8, 9]]),
        segments_BT=torch.tensor([[0, 0, 0, 1, 1, 1]]),
        labels_BT=torch.tensor([[0, IGNORED, IGNORED, 1, IGNORED, IGNORED]]),
    )
    assert targets_of_pairs(one).tolist() == [1.0, 2.0]


def test_pairs_need_two_documents(text: TokenText) -> None:
    with pytest.raises(ContractError, match=r"need two documents.*set objective.kind to masked"):
        PAIRS.rows(replace(text, documents=text.documents[:1]))


def test_a_language_of_one_document_has_no_figures_of_pairs(text: TokenText, caplog: pytest.LogCaptureFixture) -> None:
    documents = [*text.documents[:20], replace(text.documents[20], lang="de")]
    figures = held_out_figures(model_for(PAIRS, "bert", text), PAIRS, replace(text, documents=documents), "fp32")
    assert {name.partition("/")[2] for name in figures} == {"", "en", "zh"}
    assert "no figures of the validation text in de: 1 documents" in caplog.text


def test_documents_too_short_for_the_objective_cost_the_figures_of_their_language_alone(text: TokenText) -> None:
    short = [Document("de", document.start, 2, 0) for document in text.documents[:2]]  # one token, and the end of the text
    part = replace(text, documents=[*text.documents[2:], *short])
    figures = held_out_figures(model_for(SPANS, "t5", text), SPANS, part, "fp32")
    assert {name.partition("/")[2] for name in figures} == {"", "en", "zh"}
    causal = held_out_figures(model_for(MIDDLE, "llama", text), MIDDLE, part, "fp32")
    assert "loss/de" in causal
    assert "bits_per_byte/de" not in causal, "of no bytes"
    with pytest.raises(ContractError, match=r"no text is long enough .* or set another objective.kind"):
        SPANS.rows(replace(text, documents=short))


# -- span corruption ------------------------------------------------------------------------------------------------


def test_the_example_of_the_paper() -> None:
    """Thank you [for inviting] me to your party [last] week."""
    words = np.array([10, 11, 12, 13, 14, 15, 16, 17, 18, 19])
    source, targets, is_text = corrupt(words, [(2, 4), (8, 9)], [91, 92, 93], end=0)
    assert source.tolist() == [10, 11, 91, 14, 15, 16, 17, 92, 19, 0]
    assert targets.tolist() == [91, 12, 13, 92, 18, 93, 0]
    assert is_text.tolist() == [0, 1, 1, 0, 1, 0, 0]
    assert shift(targets, 0).tolist() == [0, 91, 12, 13, 92, 18, 93]


def test_density_and_span_length_of_the_paper() -> None:
    assert SPANS.spans(512) == (77, 26)  # 15% of 512, in spans of 3
    assert SPANS.model_copy(update={"mean_span_tokens": 7.0}).spans(512) == (77, 11)
    assert SPANS.model_copy(update={"noise_density": 0.5}).spans(512) == (256, 85)
    assert SPANS.spans(2) == (1, 1)
    assert SPANS.piece_tokens(256) == 284  # 284 - 43 + 14 + 1 = 256
    assert SPANS.lengths(284) == (256, 59)


@given(num_tokens=st.integers(2, 200), seed=st.integers(0, 50))
def test_source_and_targets_give_the_text_back(num_tokens: int, seed: int) -> None:
    ids, sentinels = np.arange(1000, 1000 + num_tokens), list(range(100))
    num_noise, num_spans = SPANS.spans(num_tokens)
    spans = noise_spans(num_tokens, num_noise, num_spans, np.random.default_rng(seed))
    source, targets, is_text = corrupt(ids, spans, sentinels, end=999)
    assert (len(source), len(targets)) == SPANS.lengths(num_tokens)
    assert is_text.sum() == num_noise
    written: dict[int, list[int]] = {}
    for token in targets[:-1].tolist():
        if token < 100:
            written[token], last = [], token
        else:
            written[last].append(token)
    assert written.pop(num_spans) == []
    back = [one for token in source[:-1].tolist() for one in (written[token] if token < 100 else [token])]
    assert back == ids.tolist()
    assert all(map(len, written.values()))


def test_every_way_to_part_is_as_likely() -> None:
    random = np.random.default_rng(0)
    counts = dict.fromkeys(((1, 3), (2, 2), (3, 1)), 0)
    for _ in range(3000):
        counts[tuple(random_parts(4, 2, random))] += 1
    assert all(count == pytest.approx(1000, abs=100) for count in counts.values())


def test_rows_that_need_more_sentinels_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows of 512 tokens need 29 sentinels, but num_sentinels is 12"):
        SPANS.check(ModelSpec(family="t5", context_tokens=512))


def test_rows_of_an_earlier_corpus_lie_in_one_batch_with_the_new_ones(text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    old = replace(text, documents=text.documents[:3])
    assert SPANS.rows(old).target_tokens != SPANS.rows(text).target_tokens
    monkeypatch.setattr(train, "_text", lambda *_: old)
    mixed = train._rows(PretrainJob.model_construct(objective=SPANS, replay=ReplayJob(corpus_dir=Path("old"), share=0.5)), text)
    batch = make_batch(mixed, np.arange(mixed.num_rows), CPU)
    assert batch.num_targets == int((batch.targets_BT != IGNORED).sum())


# -- text infilling -------------------------------------------------------------------------------------------------


def test_each_span_becomes_one_mask_and_the_decoder_writes_everything(text: TokenText) -> None:
    source, is_hidden = infill(np.array([10, 11, 12, 13, 14]), [(1, 3), (4, 4)], mask=7)
    assert source.tolist() == [10, 7, 13, 7, 14]  # an empty span is a mask between two tokens
    assert is_hidden.tolist() == [0, 1, 1, 0, 0]
    row = INFILL.rows(text).row(0)
    for ids, targets in parts_of(row):
        assert targets[-1] == 0
        assert ids == [0, *targets[:-1]], "the decoder reads what it wrote before"
    for objective in (INFILL, SPANS):  # a given base's may begin with another token
        opened = objective.rows(replace(text, decoder_start=text.special.pad)).row(0)
        assert {ids[0] for ids, _ in parts_of(opened)} == {text.special.pad}
    whole = {tuple(text.ids(piece)) for piece in text.pieces(63)}
    assert {tuple(targets[:-1]) for _, targets in parts_of(row)} <= whole


def test_spans_that_are_hardly_ever_longer_than_0_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.1"):
        TextInfillingSpec(kind="text_infilling", mean_span_tokens=1e-9)


def test_poisson_spans_hide_thirty_percent() -> None:
    random = np.random.default_rng(0)
    lengths = [span_lengths(1000, 0.3, 3.0, random) for _ in range(50)]
    assert all(sum(one) == 300 for one in lengths)
    every = np.concatenate(lengths)
    assert every.mean() == pytest.approx(3.0, abs=0.1)
    assert (every == 0).mean() == pytest.approx(np.exp(-3), abs=0.01)


@given(num_tokens=st.integers(1, 60), seed=st.integers(0, 30))
def test_the_source_never_outgrows_the_text(num_tokens: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    ids = np.arange(100, 100 + num_tokens)
    spans = place_spans(num_tokens, span_lengths(num_tokens, 0.3, 1.0, random), random)
    source, is_hidden = infill(ids, spans, mask=7)
    assert len(source) <= num_tokens
    assert is_hidden.sum() == max(1, round(0.3 * num_tokens))
    assert source[source != 7].tolist() == ids[is_hidden == 0].tolist()


# -- fill in the middle ---------------------------------------------------------------------------------------------


@given(num_tokens=st.integers(1, 40), seed=st.integers(0, 40), suffix_first=st.booleans())
def test_three_parts_give_the_text_back(num_tokens: int, seed: int, suffix_first: bool) -> None:
    ids = np.arange(100, 100 + num_tokens)
    made = rearrange(ids, (1, 2, 3), suffix_first, np.random.default_rng(seed)).tolist()
    if suffix_first:
        assert made[:2] == [1, 2]
        suffix, rest = made[2 : made.index(3)], made[made.index(3) + 1 :]
        assert rest + suffix == ids.tolist()
    else:
        assert made[0] == 1
        prefix, suffix = made[1 : made.index(2)], made[made.index(2) + 1 : made.index(3)]
        assert prefix + made[made.index(3) + 1 :] + suffix == ids.tolist()


def test_rate_and_order_are_as_asked(text: TokenText) -> None:
    def shares(**changes: float) -> tuple[float, float]:
        rows = MIDDLE.model_copy(update=changes).rows(text)
        parts = [targets for index in range(rows.num_rows * 8) for _, targets in parts_of(rows.row(index))]
        cut = [targets for targets in parts if text.roles["fim_middle"] in targets]
        suffix_first = [targets for targets in cut if targets[:2] == [text.roles["fim_prefix"], text.roles["fim_suffix"]]]
        return len(cut) / len(parts), len(suffix_first) / max(1, len(cut))

    assert shares(rate=0.0) == (0.0, 0.0)
    assert shares(rate=1.0, spm_share=1.0) == (1.0, 1.0)
    rate, spm = shares()
    assert rate == pytest.approx(0.5, abs=0.06)
    assert spm == pytest.approx(0.5, abs=0.1)


def test_documents_in_rows_are_shifted_and_ended(text: TokenText) -> None:
    rows = MIDDLE.model_copy(update={"rate": 0.0}).rows(text)
    found = [(ids, targets) for index in range(rows.num_rows) for ids, targets in parts_of(rows.row(index))]
    assert all(ids[0] == 0 and ids[1:] == targets[:-1] for ids, targets in found)
    assert sum(targets[-1] == 0 for _, targets in found) == len(text.documents)
    assert sum(len(targets) for _, targets in found) == len(text.shards[0])


# -- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [MASKED, PAIRS, SPANS, INFILL, MIDDLE], ids=lambda one: one.kind)
def test_padding_is_never_a_target_and_counts_are_true(text: TokenText, objective: Any) -> None:
    rows = objective.rows(text)
    batch = make_batch(rows, np.arange(rows.num_rows), CPU)
    assert batch.num_targets == int((batch.targets_BT != IGNORED).sum()) > 0
    is_pad = batch.segments_BT == batch.segments_BT.max(dim=1, keepdim=True).values
    is_pad &= batch.ids_BT == text.special.pad
    assert is_pad.any()
    assert (batch.targets_BT[is_pad] == IGNORED).all()


@pytest.mark.parametrize(
    ("objective", "family"),
    [(MASKED, "bert"), (MASKED, "modernbert"), (PAIRS, "bert"), (SPANS, "t5"), (INFILL, "bart"), (MIDDLE, "qwen3")],
    ids=lambda one: getattr(one, "kind", one),
)
def test_without_a_target_the_loss_is_0_and_so_is_the_gradient(text: TokenText, objective: Any, family: str) -> None:
    model = model_for(objective, family, text)
    batch = make_batch(objective.rows(text), np.array([0]), CPU)
    empty = replace(batch, targets_BT=torch.full_like(batch.targets_BT, IGNORED), num_targets=0)
    loss = objective.loss(model, empty).sum()
    loss.backward()
    assert loss.item() == 0.0
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "bert", "modernbert", "t5", "bart"])
@pytest.mark.parametrize("objective", [CausalSpec(kind="causal"), MASKED, PAIRS, SPANS, INFILL, MIDDLE], ids=lambda one: one.kind)
def test_a_family_fits_or_the_fitting_ones_are_named(objective: Any, family: str) -> None:
    fits = {
        "causal": {"llama", "qwen3", "gpt2"},
        "masked": {"bert", "modernbert"},
        "masked_next_sentence": {"bert"},
        "span_corruption": {"t5", "bart"},
        "text_infilling": {"t5", "bart"},
        "fill_in_the_middle": {"llama", "qwen3", "gpt2"},
    }[objective.kind]
    spec = ModelSpec(family=family, context_tokens=64)
    if family in fits:
        objective.check(spec)
    else:
        with pytest.raises(ValueError, match=f"does not train a {family}: set model.family to one of .*{min(fits)}"):
            objective.check(spec)


@pytest.mark.parametrize(
    ("objective", "family"),
    [(MIDDLE, "llama"), (MASKED, "bert"), (PAIRS, "bert"), (SPANS, "t5")],
    ids=lambda one: getattr(one, "kind", one),
)
def test_figures_are_the_same_however_few_logits_are_held(
    text: TokenText, objective: Any, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, held = model_for(objective, family, text), []
    model.get_output_embeddings().register_forward_hook(lambda *call: held.append(call[-1].numel()))
    figures, most = held_out_figures(model, objective, text, "fp32"), max(held)
    held.clear()
    monkeypatch.setattr("tasks.modeling.objectives.base._MOST_LOGITS", 7 * text.vocab_size)
    assert held_out_figures(model, objective, text, "fp32") == pytest.approx(figures, rel=1e-5)
    assert max(held) == 7 * text.vocab_size < most


def test_an_id_that_no_token_has_stands_in_no_text(text: TokenText) -> None:
    holed = replace(text, vocab_size=text.vocab_size + 2)
    assert np.array_equal(holed.text_ids, text.text_ids)
    assert holed.token_bytes == [*text.token_bytes, b"", b""]


def test_words_need_a_byte_level_tokenizer(text: TokenText, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer(models.WordLevel({"<unk>": 0, "天地": 1}, unk_token="<unk>"))
    words = replace(text, tokenizer=PreTrainedTokenizerFast(tokenizer_object=fast), vocab_size=2, roles={})
    with pytest.raises(ContractError, match="is not byte-level"):
        _ = replace(words, special=replace(text.special, end_of_text=5, pad=5, turn_end=5)).token_bytes
