"""Batches that a training cannot learn from: a loss or a gradient that is no number, a loss that jumps.

In: figures of a step and what the recipe allows. Out: what is wrong with it, in words; an error where it is not to be borne.
Invariant: what is judged and what follows depends on saved figures only, so that a resumed training judges alike. Nothing
here imports torch.
"""

import math
import statistics
from collections.abc import Sequence

from tasks.core.errors import StageError
from tasks.modeling.specs import AnomalySpec

NUM_RECENT = 20  # losses that a jump is measured against; a training remembers so many


def find_anomaly(loss: float, norm: float, recent: Sequence[float], spike_multiple: float | None) -> str | None:
    """Says what is wrong with a step, if anything is.

    Args:
        loss: Mean loss of the batch.
        norm: Norm of its gradient.
        recent: Losses of the steps before; a jump is one above their median, as soon as there are `NUM_RECENT`.
        spike_multiple: So many times the median is a jump; none: no loss is.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return f"loss {loss}, gradient norm {norm}"
    if spike_multiple is None or len(recent) < NUM_RECENT:
        return None
    median = statistics.median(recent)
    if loss <= spike_multiple * median:
        return None
    return f"loss {loss:.4g}, more than {spike_multiple:g} times the median {median:.4g} of the latest {len(recent)} steps"


def require_bearable(spec: AnomalySpec, problem: str, count: int, where: str) -> None:
    """Ends the training at an anomaly that is not to be passed over.

    Raises:
        StageError: The recipe says stop, or there were more than it allows.
    """
    if spec.action == "stop":
        raise diverged(problem, where)
    if count > spec.max_count:
        raise diverged(f"{problem}; {spec.max_count} anomalies were passed over before, as many as anomalies.max_count", where)


def diverged(problem: str, where: str) -> StageError:
    """Returns the error of a training that cannot go on."""
    return StageError(
        f"training diverged at {where}: {problem}. Lower optim.learning_rate, raise its schedule's warmup_share, set precision "
        "fp32, or let it pass over such batches with train.anomalies.action."
    )
