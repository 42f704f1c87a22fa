"""The objectives a model can be trained for: one file each, one line here.

In: nothing. Out: `ObjectiveSpec`. Invariant: each one offers `loss(model, batch) -> sum of the loss over the targets`.
"""

from tasks.modeling.objectives.causal import CausalSpec

# A union, discriminated by `kind`, as soon as there are two.
ObjectiveSpec = CausalSpec
