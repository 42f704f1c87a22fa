"""GLUE by name (Wang et al. 2019, arXiv:1804.07461): what each of its tasks reads, says and is judged by.

In: the name of a task and where its data lie. Out: the fields of a `LabelledSpec`. Invariants: GLUE's test labels are secret, so
its development items are held out and the training items give the part to select on; where a copy has test labels (`bare`),
they judge and the development items select.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.contracts import LabelledTask
from tasks.core.artifact import Spec
from tasks.core.hub import HubRows
from tasks.modeling.labels import Criterion

GlueName = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
HUB_NAME, HUB_REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
_LICENCE = "that of each text of GLUE; research use"


@dataclass(frozen=True, slots=True)
class GlueTask:
    """One task.

    Attributes:
        labels: Names in the order of their numbers; none of a regression.
        metrics: What GLUE reports; the first one is asked for by the gate.
        texts: Columns of the text, or of the two texts, on the hub.
        tsv: Columns of the text, the second text if any, and the label in GLUE's own tables.
        tsv_labels: Labels as these tables write them, in the same order; none: their numbers.
        heldout: Parts with labels that judge; more than one of MNLI, which has the genres of training and others.
    """

    labels: tuple[str, ...]
    metrics: tuple[Criterion, ...]
    texts: tuple[str, ...]
    tsv: tuple[str, ...]
    tsv_labels: tuple[str, ...] = ()
    has_header: bool = True
    heldout: tuple[str, ...] = ("",)

    @property
    def task(self) -> LabelledTask:
        """What is learned."""
        return "classification" if self.labels else "regression"


_ENTAILS = ("entailment", "not_entailment")
_SENTENCES = ("sentence1", "sentence2")

TASKS: dict[GlueName, GlueTask] = {
    "cola": GlueTask(("unacceptable", "acceptable"), ("mcc",), ("sentence",), ("4", "2"), has_header=False),
    "sst2": GlueTask(("negative", "positive"), ("accuracy",), ("sentence",), ("sentence", "label")),
    "mrpc": GlueTask(("not_equivalent", "equivalent"), ("f1", "accuracy"), _SENTENCES, ("#1 String", "#2 String", "Quality")),
    "stsb": GlueTask((), ("pearson", "spearman"), _SENTENCES, (*_SENTENCES, "score")),
    "qqp": GlueTask(
        ("not_duplicate", "duplicate"),
        ("f1", "accuracy"),
        ("question1", "question2"),
        ("question1", "question2", "is_duplicate"),
    ),
    "mnli": GlueTask(
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        ("premise", "hypothesis"),
        (*_SENTENCES, "gold_label"),
        ("entailment", "neutral", "contradiction"),
        heldout=("matched", "mismatched"),
    ),
    "qnli": GlueTask(_ENTAILS, ("accuracy",), ("question", "sentence"), ("question", "sentence", "label"), _ENTAILS),
    "rte": GlueTask(_ENTAILS, ("accuracy",), _SENTENCES, (*_SENTENCES, "label"), _ENTAILS),
    "wnli": GlueTask(("not_entailment", "entailment"), ("accuracy",), _SENTENCES, (*_SENTENCES, "label")),
}


class GlueSpec(Spec):
    """A task of GLUE by its name, and where its data lie."""

    name: Annotated[GlueName, Field(description="Task of GLUE.")]
    form: Annotated[
        Literal["hub", "parquet", "tsv", "bare"],
        Field(
            description="hub: read from the Hugging Face hub; parquet: a folder with the hub's files (train-*.parquet); tsv: a "
            "folder as GLUE's own archives have it (train.tsv, dev.tsv); bare: tables without a header, the texts and then the "
            "label, a file each for train, dev and test."
        ),
    ] = "hub"
    path: Annotated[str | None, Field(description="Folder of the task; none: the hub.")] = None
    prefix: Annotated[str, Field(description="bare: how the names of the files begin, e.g. stsb-en- of stsb-en-train.csv.")] = ""
    has_quotes: Annotated[bool, Field(description="bare: fields may be quoted (RFC 4180).")] = False
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="hub: commit of the data set.")] = HUB_REVISION
    licence: Annotated[str, Field(min_length=1, description="Licence of the data.")] = _LICENCE

    @model_validator(mode="after")
    def _is_found(self) -> Self:
        if (self.path is None) != (self.form == "hub"):
            raise ValueError("set path to the folder of the task with form parquet, tsv or bare; hub has none")
        if self.form == "bare" and len(TASKS[self.name].heldout) > 1:
            raise ValueError(
                f"{self.name} has several held-out parts, which the bare form does not tell apart; use tsv or parquet"
            )
        return self

    @property
    def metric(self) -> Criterion:
        """What GLUE ranks by."""
        return TASKS[self.name].metrics[0]

    def fields(self) -> dict[str, Any]:
        """Returns what it says of a `LabelledSpec`: task, sets, labels and bounds."""
        of = TASKS[self.name]
        found: dict[str, Any] = {"task": of.task, "train": [self._set("train", self.name)]}
        found |= {"label_names": of.labels} if of.labels else {"min_value": 0.0, "max_value": 5.0}
        if self.form == "bare":
            return found | {
                "validation": [self._set("dev", f"{self.name}-dev")],
                "heldout": [self._set("test", f"{self.name}-test")],
            }
        return found | {"heldout": [self._set(self._dev(part), f"{self.name}-{part or 'dev'}") for part in of.heldout]}

    def _dev(self, part: str) -> str:
        return ("dev" if self.form == "tsv" else "validation") + (f"_{part}" if part else "")

    def _set(self, part: str, name: str) -> dict[str, Any]:
        of = TASKS[self.name]
        *texts, label = self._columns(of)
        columns = {"text_column": texts[0], "label_column": label} | ({"pair_column": texts[1]} if len(texts) > 1 else {})
        written = of.tsv_labels if self.form == "tsv" and of.tsv_labels else map(str, range(len(of.labels)))
        return (
            {"name": name, "licence": self.licence, "names": dict(zip(written, of.labels, strict=True))}
            | columns
            | self._where(part)
        )

    def _columns(self, of: GlueTask) -> tuple[str, ...]:
        if self.form == "bare":
            return tuple(str(place + 1) for place in range(len(of.texts) + 1))
        return of.tsv if self.form == "tsv" else (*of.texts, "label")

    def _where(self, part: str) -> dict[str, Any]:
        if self.form == "hub":
            return {"hub": HubRows(dataset=HUB_NAME, config=self.name, split=part, revision=self.revision).model_dump()}
        if self.form == "parquet":
            return {"paths": [f"{self.path}/{part}-*.parquet"]}
        if self.form == "tsv":
            has_header = TASKS[self.name].has_header
            return {"paths": [f"{self.path}/{part}.tsv"], "has_quotes": False, "has_header": has_header}
        return {"paths": [f"{self.path}/{self.prefix}{part}.*"], "has_header": False, "has_quotes": self.has_quotes}
