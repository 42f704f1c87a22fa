"""Builds the data that ships with the recipes: `python make_data.py SOURCE [--out FOLDER]`.

In: the folder of source data (`corpus/`, `sft/`). Out: `corpus/*.jsonl.gz`, `instructions/*.jsonl.gz` and
`SHA256SUMS`. Invariant: the same source gives the same bytes, and no answer of a held-out item stands in
anything one trains on. What was taken, changed and left out, and under which licences: NOTICE.md.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grouping import Group, fraction, held_out
from textkeys import Chooser, Keywords, squeeze, visible

HERE = Path(__file__).resolve().parent
COMMANDS = "linux-command_1.22.0"
PACKAGES = "debian_bookworm_descriptions_zh-CN"
HANDBOOK = "debian-handbook_"
PAIRS = "preferences/translate_pairs.jsonl.gz"
POETRY_SHARE = 0.2
Row = dict[str, Any]
KeywordRule = Callable[[Row], Keywords | None]


@dataclass(frozen=True)
class Source:
    """The source records, as read."""

    docs: list[Row]
    articles: list[Row]
    poems: list[Row]
    commands: list[Row]
    packages: list[Row]


def read_lines(path: Path) -> list[Row]:
    """The records of a compressed JSON Lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def read_source(folder: Path) -> Source:
    """Read what the shipped files are made of."""
    return Source(
        docs=read_lines(folder / "corpus" / "debian_docs_zh_en.jsonl.gz"),
        articles=read_lines(folder / "corpus" / "linux_command_zh.jsonl.gz"),
        poems=read_lines(folder / "corpus" / "chinese_poetry_sample.jsonl.gz"),
        commands=json.loads((folder / "sft" / "linux_command_zh_sft.json").read_text(encoding="utf-8")),
        packages=read_lines(folder / "sft" / "debian_translate_en_zh_messages.jsonl.gz"),
    )


def corpus_row(record: Row, licence: str) -> Row:
    """A corpus line in the order of fields that all corpus files share."""
    head: Row = {key: record[key] for key in ("id", "source", "lang")}
    extra: Row = {key: record[key] for key in ("title", "author") if key in record}
    return {**head, "licence": licence, "format": record["format"], **extra, "text": record["text"]}


def handbook_rows(docs: Iterable[Row]) -> list[Row]:
    """The pages of the Debian Handbook, raw; the manuals under the GPL alone stay out."""
    return [corpus_row(doc, "CC-BY-SA-3.0") for doc in docs if doc["source"].startswith(HANDBOOK)]


def poem_rows(poems: Iterable[Row]) -> list[Row]:
    """About a fifth of the poems, by the hash of the first id with that text: exact copies come together."""
    first: dict[str, str] = {}
    for poem in poems:
        first.setdefault(poem["text"], poem["id"])
    kept = (poem for poem in poems if poem["text"].strip() and fraction(first[poem["text"]]) < POETRY_SHARE)
    return [corpus_row(poem, "MIT") for poem in kept]


def command_name(record: Row) -> str:
    """The command that an instruction or an article is about."""
    if "instruction" in record:
        return str(record["instruction"].split()[3])
    return Path(record["id"]).name.removesuffix(".md")


def command_row(record: Row) -> Row:
    """An instruction line in alpaca form."""
    name = command_name(record)
    head = {"id": f"linux-command/{name}", "group": name, "source": COMMANDS, "licence": "MIT"}
    return {**head, **{key: record[key] for key in ("instruction", "input", "output")}}


def package_row(record: Row) -> Row:
    """An instruction line in chat form."""
    head = {"id": f"debian-package/{record['id']}", "group": record["id"], "source": PACKAGES}
    return {**head, "licence": "as-the-package", "messages": record["messages"]}


def make_groups(source: Source) -> list[Group]:
    """One group a name; a command and a package of the same name are one group."""
    groups: dict[str, Group] = {}
    for row in map(command_row, source.commands):
        groups[row["group"]] = Group(row["group"], command_answer=row["output"])
    for article in source.articles:
        groups[command_name(article)].article = article["text"]
    for row in map(package_row, source.packages):
        group = groups.setdefault(row["group"], Group(row["group"]))
        user, assistant = row["messages"]
        group.package_answer = assistant["content"]
        group.prompts.append(user["content"].split("\n", 1)[1])
    return [groups[name] for name in sorted(groups)]


def heldout_rows(rows: list[Row], keywords: KeywordRule) -> list[Row]:
    """The rows with their keywords; a row for which the rules find none is dropped."""
    found = [(row, keywords(row)) for row in rows]
    return [{**row, **words.fields()} for row, words in found if words]


def two_sides(name: str, rows: list[Row], held: set[str], keywords: KeywordRule) -> dict[str, list[Row]]:
    """The two files of one instruction set."""
    train = [row for row in rows if row["group"] not in held]
    test = [row for row in rows if row["group"] in held]
    return {
        f"instructions/{name}_train.jsonl.gz": train,
        f"instructions/{name}_heldout.jsonl.gz": heldout_rows(test, keywords),
    }


def command_files(records: list[Row], held: set[str], words: dict[str, list[str]]) -> dict[str, list[Row]]:
    """Explanations of commands, training and held-out side."""
    rows = [command_row(record) for record in records]
    chooser = Chooser((row["output"] for row in rows), **words)

    def keywords(row: Row) -> Keywords | None:
        return chooser.explain(f"{row['instruction']}\n{row['input']}", row["output"])

    return two_sides("linux_command", rows, held, keywords)


def package_files(records: list[Row], held: set[str], words: dict[str, list[str]]) -> dict[str, list[Row]]:
    """Translations of package descriptions, training and held-out side."""
    rows = [package_row(record) for record in records]
    chooser = Chooser((row["messages"][1]["content"] for row in rows), **words)

    def keywords(row: Row) -> Keywords | None:
        prompt, answer = (message["content"] for message in row["messages"])
        return chooser.translate(prompt, answer, row["group"])

    sides = two_sides("translate", rows, held, keywords)
    return {**sides, PAIRS: [pair_row(row) for row in sides["instructions/translate_train.jsonl.gz"]]}


def pair_row(row: Row) -> Row:
    """A translation preferred to the text itself, which is what small models give that copy their prompt."""
    prompt, answer = (message["content"] for message in row["messages"])
    head = {key: row[key] for key in ("id", "group", "source", "licence")}
    return {**head, "prompt": prompt, "chosen": answer, "rejected": prompt.split("\n", 1)[1]}


def make_files(source: Source) -> dict[str, list[Row]]:
    """All shipped files by their path in the folder."""
    handbook, poems = handbook_rows(source.docs), poem_rows(source.poems)
    fixed = [squeeze(visible(row["text"])) for row in handbook] + [squeeze(row["text"]) for row in poems]
    held = held_out(make_groups(source), fixed)
    articles = [corpus_row(row, "MIT") for row in source.articles if command_name(row) not in held]
    words = json.loads((HERE / "keyword_terms.json").read_text(encoding="utf-8"))
    return {
        "corpus/debian_handbook.jsonl.gz": handbook,
        "corpus/linux_command_zh.jsonl.gz": articles,
        "corpus/chinese_poetry.jsonl.gz": poems,
        **command_files(source.commands, held, words),
        **package_files(source.packages, held, words),
    }


def write_lines(path: Path, rows: Iterable[Row]) -> None:
    """Write compressed JSON Lines whose bytes depend on the rows alone (and on zlib)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as stream:
        stream.write(text.encode("utf-8"))


def build(folder: Path, out: Path) -> dict[str, int]:
    """Write all files and their sums.

    Args:
        folder: the source data.
        out: where `corpus/`, `instructions/`, `preferences/` and `SHA256SUMS` are written.

    Returns:
        The number of lines by file.
    """
    files = make_files(read_source(folder))
    for name, rows in files.items():
        write_lines(out / name, rows)
    sums = (f"{hashlib.sha256((out / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(files))
    (out / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    return {name: len(rows) for name, rows in files.items()}


def main(argv: list[str] | None = None) -> int:
    """Command line: build the files and say how many lines each has."""
    parser = argparse.ArgumentParser(description="Build the demo data.")
    parser.add_argument("source", type=Path, help="folder of the source data")
    parser.add_argument("--out", type=Path, default=HERE, help="where to write (default: beside this script)")
    args = parser.parse_args(argv)
    for name, count in build(args.source, args.out).items():
        print(f"{count:6d}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
