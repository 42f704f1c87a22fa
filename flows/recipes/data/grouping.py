"""Split of groups (commands, packages) into a training and a held-out side.

In: one `Group` a name, with all its texts. Out: the set of held-out names. Invariant: groups that share a
name stem, a sentence, a long span or most of an answer form a cluster, and a cluster is never cut; its side
follows from the sha256 of its first name.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from textkeys import passages, squeeze

SALT = "textmill-demo-0"
HELDOUT_SHARE = 0.14
MAX_HELDOUT_CLUSTER = 12
MIN_ANSWER_CHARS = 8
ANSWER_SPAN_CHARS = 24
PROMPT_SPAN_CHARS = 60
_PREFIX_CHARS = 3
_SUFFIX_CHARS = 4
_SHORT_FAMILIES = ("bz", "gz", "lp", "lv", "pv", "vg", "yp")


@dataclass
class Group:
    """All texts under one name: the command, the package, or both where they are called the same."""

    name: str
    command_answer: str = ""
    article: str = ""
    package_answer: str = ""
    prompts: list[str] = field(default_factory=list)

    @property
    def answers(self) -> list[str]:
        """The answers that are not empty."""
        return [answer for answer in (self.command_answer, self.package_answer) if answer]


class Clusters:
    """Disjoint sets of names; the smallest name stands for its cluster."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}

    def find(self, name: str) -> str:
        """The name that stands for the cluster."""
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, names: Iterable[str]) -> None:
        """Put names into one cluster."""
        for left, right in pairwise(names):
            first, second = sorted((self.find(left), self.find(right)))
            self._parent[second] = first

    def members(self) -> dict[str, list[str]]:
        """The clusters by the name that stands for them."""
        clusters: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._parent):
            clusters[self.find(name)].append(name)
        return clusters


def stem(name: str) -> str:
    """The part of a name that its family shares: libfoo2-bin and foo-doc give foo."""
    first = re.split(r"[-_.+]", name)[0]
    bare = re.sub(r"\d+", "", first) or first
    return bare[3:] if bare.startswith("lib") and len(bare) > 5 else bare


def name_keys(group: Group, command_names: set[str]) -> Iterator[str]:
    """Keys that two groups of one family share because of their names."""
    yield f"stem {stem(group.name)}"
    if not group.command_answer:
        return
    yield f"prefix {group.name[:_PREFIX_CHARS]}"
    if group.name[:2] in _SHORT_FAMILIES:
        yield f"family {group.name[:2]}"
    for start in range(len(group.name) - _SUFFIX_CHARS + 1):
        if group.name[start:] in command_names:
            yield f"suffix {group.name[start:]}"


def spans(text: str, size: int) -> set[str]:
    """All runs of `size` characters."""
    return {text[i : i + size] for i in range(len(text) - size + 1)}


def text_keys(group: Group) -> Iterator[str]:
    """Keys that two groups share because of a common answer, sentence or long span."""
    for answer in group.answers:
        yield f"answer {squeeze(answer)}"
        yield from spans(squeeze(answer), ANSWER_SPAN_CHARS)
    for prompt in group.prompts:
        yield from spans(squeeze(prompt), PROMPT_SPAN_CHARS)
    for text in (*group.prompts, group.package_answer):
        yield from (f"passage {passage}" for passage in passages(text))


def _grams(text: str, size: int) -> frozenset[str]:
    letters = re.sub(r"\W", "", squeeze(text))
    return frozenset(spans(letters, size))


def _sampled(grams: dict[str, frozenset[str]], max_groups: int) -> dict[str, frozenset[str]]:
    """An eighth of the grams, less those that many groups share (headings, boilerplate)."""
    eighth = {name: {g for g in found if zlib.crc32(g.encode()) % 8 == 0} for name, found in grams.items()}
    counts = Counter(gram for found in eighth.values() for gram in found)
    return {name: frozenset(g for g in found if counts[g] <= max_groups) for name, found in eighth.items()}


def near_pairs(grams: dict[str, frozenset[str]], bound: float, *, jaccard: bool) -> Iterator[tuple[str, str]]:
    """Pairs whose common grams are at least `bound` of the union (jaccard) or of the smaller one."""
    for left, right in combinations(sorted(name for name in grams if grams[name]), 2):
        one, other = grams[left], grams[right]
        common = len(one & other)
        whole = len(one) + len(other) - common if jaccard else min(len(one), len(other))
        if common >= bound * whole:
            yield left, right


def near_groups(groups: list[Group]) -> Iterator[tuple[str, str]]:
    """Pairs of groups with nearly the same answer or article."""
    short = {group.name: _grams(group.command_answer, 2) for group in groups}
    yield from near_pairs(short, 0.5, jaccard=True)
    long = {group.name: _grams(group.package_answer, 4) for group in groups}
    yield from near_pairs(long, 0.4, jaccard=False)
    articles = {group.name: _grams(group.article, 10) for group in groups}
    yield from near_pairs(_sampled(articles, 3), 0.3, jaccard=False)


def needles(groups: Iterable[Group]) -> dict[str, set[str]]:
    """Squeezed texts that must not stand in a training text, each with the names it belongs to."""
    found: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        answers = [squeeze(answer) for answer in group.answers]
        texts = [answer for answer in answers if len(answer) >= MIN_ANSWER_CHARS]
        for text in (*group.prompts, group.package_answer):
            texts += passages(text)
        for text in texts:
            found[text].add(group.name)
    return found


def occurring(texts: Iterable[str], document: str) -> set[str]:
    """The texts (of at least `MIN_ANSWER_CHARS`) that stand in the document, both squeezed."""
    heads: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        heads[text[:MIN_ANSWER_CHARS]].append(text)
    hits: set[str] = set()
    for start in range(len(document) - MIN_ANSWER_CHARS + 1):
        for text in heads.get(document[start : start + MIN_ANSWER_CHARS], ()):
            if document.startswith(text, start):
                hits.add(text)
    return hits


def cluster(groups: list[Group]) -> Clusters:
    """Join all groups that must stay on one side."""
    clusters = Clusters(group.name for group in groups)
    commands = {group.name for group in groups if group.command_answer}
    keyed: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        for key in (*name_keys(group, commands), *text_keys(group)):
            keyed[key].append(group.name)
    for names in (*keyed.values(), *near_groups(groups)):
        clusters.join(names)
    owners = needles(groups)
    for group in groups:
        for text in occurring(owners, squeeze(group.article)):
            clusters.join([group.name, *sorted(owners[text])])
    return clusters


def fraction(name: str) -> float:
    """A number in [0, 1) that depends on nothing but the name."""
    return int(hashlib.sha256(f"{SALT}:{name}".encode()).hexdigest()[:12], 16) / 16**12


def held_out(groups: list[Group], documents: Iterable[str]) -> set[str]:
    """Names of the held-out side.

    Args:
        groups: all groups.
        documents: squeezed texts that stay in the corpus in any case; what they quote goes to training.
    """
    owners = needles(groups)
    quoted = {name for document in documents for text in occurring(owners, document) for name in owners[text]}
    chosen: set[str] = set()
    for first, names in cluster(groups).members().items():
        if fraction(first) < HELDOUT_SHARE and len(names) <= MAX_HELDOUT_CLUSTER and quoted.isdisjoint(names):
            chosen.update(names)
    return chosen
