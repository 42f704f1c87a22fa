"""Builds `synonyms/wordnet_en.txt.gz`: `python make_synonyms.py DICT`, the dictionary of WordNet 3.0 (Debian `wordnet-base`).

In: `data.*` and `cntlist.rev`. Out: a line a group, the words that mean the same in their main sense. Invariants: a word stands
in one group only, that of the sense in which it is mostly used where WordNet's texts are tagged, or the only sense it has; the
same dictionary gives the same bytes.
"""

from __future__ import annotations

import gzip
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = {"noun": "1", "verb": "2", "adj": "3", "adv": "4"}
MAIN_SHARE = 0.6
Sense = tuple[str, str, int, int]  # word, part of speech, lexicographer's file, id in it


def counts(folder: Path) -> Counter[Sense]:
    """How often each sense is tagged in WordNet's texts."""
    found: Counter[Sense] = Counter()
    for line in (folder / "cntlist.rev").read_text(encoding="ascii").splitlines():
        key, _, number = line.split()
        word, _, rest = key.partition("%")
        part, file, sense = rest.split(":")[:3]
        found[word, "3" if part == "5" else part, int(file), int(sense)] += int(number)
    return found


def synsets(folder: Path) -> Iterator[list[Sense]]:
    """The senses of each synset."""
    for name, part in PARTS.items():
        for line in (folder / f"data.{name}").read_text(encoding="ascii").splitlines():
            if not line.startswith("  "):  # the licence
                fields = line.split()
                words = fields[4 : 4 + 2 * int(fields[3], 16)]
                senses = zip(words[::2], words[1::2], strict=True)
                yield [(word.partition("(")[0].lower(), part, int(fields[1]), int(sense, 16)) for word, sense in senses]


def groups(folder: Path) -> list[list[str]]:
    """Words of one main sense."""
    tagged, found = counts(folder), list(synsets(folder))
    by_word: defaultdict[str, list[Sense]] = defaultdict(list)
    for senses in found:
        for sense in senses:
            by_word[sense[0]].append(sense)
    lines = []
    for senses in found:
        words = {sense[0] for sense in senses if sense[0].isalpha() and is_main(sense, by_word[sense[0]], tagged)}
        if len(words) > 1:
            lines.append(sorted(words))
    return sorted(lines)


def is_main(sense: Sense, all_senses: list[Sense], tagged: Counter[Sense]) -> bool:
    """Whether a word is mostly used in a sense."""
    total = sum(tagged[one] for one in all_senses)
    return len(all_senses) == 1 if not total else tagged[sense] >= MAIN_SHARE * total


def main(folder: Path) -> None:
    """Write the groups."""
    text = "".join(" ".join(words) + "\n" for words in groups(folder))
    out = HERE / "synonyms" / "wordnet_en.txt.gz"
    out.parent.mkdir(exist_ok=True)
    with out.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        file.write(text.encode("ascii"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
