"""Evaluation: models scored alone, compared in pairs, judged by rules.

In: checkpoints, test documents, held-out conversations or labelled items. Out: `Scores`, a `TuningSummary`, an
`EvalReport`, a `Verdict`. Invariant: the test split is read here and nowhere else, and nothing here selects a model's weights.
"""

from tasks.evaluation.compare import compare
from tasks.evaluation.gate import judge, require_verdict
from tasks.evaluation.label_compare import compare_labels
from tasks.evaluation.label_gate import judge_labels
from tasks.evaluation.label_score import score_labels, score_labels_champion, score_majority
from tasks.evaluation.label_specs import CompareLabelsSpec, EvaluateLabelledSpec, LabelGateSpec, ScoreLabelsSpec
from tasks.evaluation.score import score_champion, score_model
from tasks.evaluation.specs import CompareSpec, EvaluateSpec, GateSpec, RequireVerdictSpec, ScoreSpec
from tasks.evaluation.summary import SummarizeSpec, summarize
from tasks.evaluation.tunings import CompareTuningsSpec, compare_tunings

__all__ = [
    "CompareLabelsSpec",
    "CompareSpec",
    "CompareTuningsSpec",
    "EvaluateLabelledSpec",
    "EvaluateSpec",
    "GateSpec",
    "LabelGateSpec",
    "RequireVerdictSpec",
    "ScoreLabelsSpec",
    "ScoreSpec",
    "SummarizeSpec",
    "compare",
    "compare_labels",
    "compare_tunings",
    "judge",
    "judge_labels",
    "require_verdict",
    "score_champion",
    "score_labels",
    "score_labels_champion",
    "score_majority",
    "score_model",
    "summarize",
]
