"""The artifact types: the map of the whole pipeline on one page.

    RawCorpus -> FilteredCorpus -> CleanCorpus -> CleanCorpus (decontaminated) -> QualityReport
                                                   ^           |-> Tokenizer -> TokenizedCorpus -> Checkpoint (base)
    Conversations ---------------------------------+----------------------------------------------> Checkpoint (tuned)
    Preferences, Labelled (QualityReport) --------------------------------------------------------> Checkpoint (tuned)
    Baseline -> QualityReport
    Champion, Checkpoint, Checkpoint -> Scores -> EvalReport -> Verdict -> ModelVersion -> Deployment
    Checkpoint (tuned), Scores -> TuningSummary, several of them -> TuningComparison

In: what stages measured. Out: frozen values whose facts the next stage checks. Invariant: counts add up wherever
documents or items pass through: in = kept + dropped by reason (+ quarantined).
"""

from tasks.contracts.corpus import Baseline, CleanCorpus, FilteredCorpus, QualityReport, RawCorpus, TokenizedCorpus, Tokenizer
from tasks.contracts.items import Conversations, Labelled, Preferences
from tasks.contracts.judgement import Champion, EvalReport, Scores, Verdict
from tasks.contracts.models import Checkpoint, Fisher
from tasks.contracts.release import Deployment, ModelVersion
from tasks.contracts.shared import SPLITS, Count, Counts, Interval, LabelledTask, Role, Split
from tasks.contracts.tunings import TuningComparison, TuningSummary

__all__ = [
    "SPLITS",
    "Baseline",
    "Champion",
    "Checkpoint",
    "CleanCorpus",
    "Conversations",
    "Count",
    "Counts",
    "Deployment",
    "EvalReport",
    "FilteredCorpus",
    "Fisher",
    "Interval",
    "Labelled",
    "LabelledTask",
    "ModelVersion",
    "Preferences",
    "QualityReport",
    "RawCorpus",
    "Role",
    "Scores",
    "Split",
    "TokenizedCorpus",
    "Tokenizer",
    "TuningComparison",
    "TuningSummary",
    "Verdict",
]
