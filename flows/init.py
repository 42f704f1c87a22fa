"""`textmill init`: a commented recipe for one's own text.

In: a path, the text, instruction data if there is any. Out: a TOML file that runs. Invariant: an existing file is never
overwritten.
"""

import json
import os
from hashlib import sha256
from pathlib import Path

from tasks.core.errors import RecipeError
from tasks.core.store import write_durably

_TEMPLATE = """\
# A Textmill recipe. It holds only what differs from the preset it extends; `textmill plan {path}` shows what it would
# do, `textmill run {path}` does it. Every field of every stage is listed by the form in the Prefect UI (`textmill ui`).
extends = "demo"
name = "{name}"

# Your text: files, folders and globs of txt, md, html, jsonl, csv, parquet, epub, warc and more (docs/formats.md), compressed or
# not. Relative paths start from this file's folder.
[[ingest.sources]]
kind = "files"
name = "{source}"
paths = [{data}]
licence = "unknown"   # say what you know: it goes into the model card
# lang = "zh"         # a hint; the language of each document is identified anyway
# passage_chars = 4_000  # books: text files are cut at blank lines into documents of about this length
# restore_breaks = true  # text whose paragraphs are glued (of socialism.Humans lived)
{instructions}
# As it stands the model is the demo's: 3.7 M weights that read 550,000 tokens in minutes on two cores, however much text you
# have. To let size, budget, batch and rate follow from `depth`, take the # off all nine lines here (see
# docs/pretraining.md, and `plan`).
# [pretrain.model]
# depth = 6
# width = "off"
# [pretrain.train]
# num_tokens = "off"
# batch_rows = "off"
# [pretrain.optim]
# kind = "adamw"       # for which the rate is derived
# learning_rate = "off"

# [dedup]              # the demo holds out 4 and 8% of its small corpus
# validation_share = 0.02
# test_share = 0.02

# [tune.method]
# kind = "full"        # or lora, freeze, layer_decay, gradual, ia3, ...; a wrong kind lists them all

# [evaluate]           # asked of each model for you to read; the demo's are about Linux
# sample_prompts = ["What is this text about?"]
# [deploy]             # asked before a model goes live; the demo's are about Linux too
# prompts = ["What is this text about?"]

# The name under which the model is registered and served.
[registry]
name = "{name}"
purpose = "Made from {source}."   # opens the model card
"""

_WITH_INSTRUCTIONS = """
# Your instruction data, alpaca or chat form.
[[instructions.train]]
name = "{name}"
paths = [{path}]
licence = "unknown"
"""

_HELDOUT = """
# What judges the model; until you set it, the demo's items about Linux judge your model, and the gate may say no. Each item has
# the keywords its answer must hold: {"instruction": "Who wrote it?", "output": "Lu Xun wrote it.", "keywords": ["Lu Xun"]}
# [[instructions.heldout]]
# name = "my-heldout"
# paths = ["my_heldout.jsonl"]
# licence = "unknown"
"""

_WITHOUT_INSTRUCTIONS = """
# Instruction data for tuning: the demo's, until you have your own.
# [[instructions.train]]
# name = "mine"
# paths = ["my_instructions.jsonl"]
# licence = "unknown"
"""


def write_recipe(path: Path, data: Path, instructions: Path | None) -> None:
    """Writes a recipe for the text at `data`.

    Raises:
        RecipeError: `path` exists, is no .toml or cannot be written, or the data is not there.
    """
    if path.suffix != ".toml":
        raise RecipeError(f"{path} should end in .toml")
    if path.exists():
        raise RecipeError(f"{path} exists; choose another name, or remove it first")
    for given in (data, instructions):
        if given is not None and not given.exists():
            raise RecipeError(f"{given} is not there; --data and --instructions take a file or a folder")
    block = _WITHOUT_INSTRUCTIONS
    if instructions is not None:
        block = _WITH_INSTRUCTIONS.format(name=_name(instructions), path=_toml(instructions))
    text = _TEMPLATE.format(path=path, name=_name(path), source=_name(data), data=_toml(data), instructions=block + _HELDOUT)
    try:
        write_durably(path, text)
    except (OSError, UnicodeEncodeError) as error:  # the latter: a name that is no UTF-8
        raise RecipeError(f"{path} cannot be written: {error}") from error


def _name(path: Path) -> str:
    """Returns a name as recipes take it; where letters of the path's are lost, others of the same rest get another one."""
    stem = path.stem.lower()
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem).strip("-")
    name = letters[:40] or "corpus"
    is_whole = letters == name and all(letter.isascii() for letter in stem)
    return name if is_whole else f"{name}-{sha256(os.fsencode(path.stem)).hexdigest()[:6]}"


def _toml(path: Path) -> str:
    """Returns a path as a string of TOML, which JSON's are."""
    return json.dumps(str(path.absolute()), ensure_ascii=False)
