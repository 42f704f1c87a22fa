"""Evaluation: models scored alone, compared in pairs, judged by rules.

In: checkpoints, test documents, held-out conversations. Out: `Scores`, an `EvalReport`, a `Verdict`. Invariant: the test split is
read here and nowhere else, and nothing here selects a model's weights.
"""

from tasks.evaluation.compare import compare
from tasks.evaluation.gate import judge, require_verdict
from tasks.evaluation.score import score_champion, score_model
from tasks.evaluation.specs import CompareSpec, EvaluateSpec, GateSpec, RequireVerdictSpec, ScoreSpec

__all__ = [
    "CompareSpec",
    "EvaluateSpec",
    "GateSpec",
    "RequireVerdictSpec",
    "ScoreSpec",
    "compare",
    "judge",
    "require_verdict",
    "score_champion",
    "score_model",
]
