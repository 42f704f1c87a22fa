"""The losses of preference learning: what is asked of the likelihoods of a better and a worse answer.

In: log-probabilities of both answers. Out: a loss and a margin for each pair. Invariant: a margin above 0 says that the better
answer is preferred; the losses are functions of values alone.

Shapes: B pairs, 2 answers (the better one first).
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tasks.core.artifact import Spec

if TYPE_CHECKING:
    from torch import Tensor


class DpoSpec(Spec):
    """Direct preference optimisation (Rafailov et al., arXiv:2305.18290)."""

    kind: Literal["dpo"]
    beta: Annotated[float, Field(gt=0, description="How strongly the model is held to what it was; 0.1 to 0.5 are usual.")] = 0.1
    needs_reference: ClassVar[bool] = True

    def margins(self, logp_B2: "Tensor", counts_B2: "Tensor", reference_B2: "Tensor") -> "Tensor":
        """Returns beta times how much more the better answer has gained on the reference than the worse one."""
        gained_B2 = logp_B2 - reference_B2
        return self.beta * (gained_B2[:, 0] - gained_B2[:, 1])

    def losses(self, logp_B2: "Tensor", counts_B2: "Tensor", reference_B2: "Tensor") -> "Tensor":
        """Returns -log sigmoid(margin)."""
        import torch.nn.functional as F

        return -F.logsigmoid(self.margins(logp_B2, counts_B2, reference_B2))


class OrpoSpec(Spec):
    """Odds ratio preference optimisation, which needs no reference (Hong et al., arXiv:2403.07691)."""

    kind: Literal["orpo"]
    weight: Annotated[float, Field(gt=0, description="Weight of the odds ratio beside the loss of the better answer.")] = 0.1
    needs_reference: ClassVar[bool] = False

    def margins(self, logp_B2: "Tensor", counts_B2: "Tensor", reference_B2: "Tensor") -> "Tensor":
        """Returns the log of the ratio of the odds p / (1 - p), p being the answer's likelihood a token (geometric mean)."""
        import torch

        mean_B2 = logp_B2 / counts_B2
        # log(1 - p) by expm1: p may be close to 1, and at 1 itself the odds have no end.
        odds_B2 = mean_B2 - torch.log(-torch.expm1(mean_B2.clamp(max=-1e-7)))
        return odds_B2[:, 0] - odds_B2[:, 1]

    def losses(self, logp_B2: "Tensor", counts_B2: "Tensor", reference_B2: "Tensor") -> "Tensor":
        """Returns the better answer's loss in nats a token - weight * log sigmoid(log odds ratio)."""
        import torch.nn.functional as F

        nats_B = -logp_B2[:, 0] / counts_B2[:, 0]
        return nats_B - self.weight * F.logsigmoid(self.margins(logp_B2, counts_B2, reference_B2))


PreferenceLoss = Annotated[DpoSpec | OrpoSpec, Field(discriminator="kind")]
