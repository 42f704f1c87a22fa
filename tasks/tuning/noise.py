"""Noise on the embeddings while tuning: NEFTune (Jain et al., arXiv:2310.05914).

In: a model. Out: the same model, which adds noise as long as it trains. Invariants: nothing is added when it is looked at, merged
or served; the noise of a step hangs on the seed and the step, so a resumed training draws the same.

Shapes: B rows, T positions, W width.
"""

from typing import Any


def add_noise(model: Any, alpha: float) -> list[Any]:
    """Adds uniform noise in +-alpha / sqrt(T * W) to what the input embeddings give; returns the handles that end it.

    T is the length of the packed row, as in other implementations that pack.
    """
    import torch

    def noisy(embedding: Any, _: Any, states_BTW: torch.Tensor) -> torch.Tensor | None:
        if not embedding.training:
            return None
        limit = alpha / (states_BTW.shape[1] * states_BTW.shape[2]) ** 0.5
        return states_BTW + torch.empty_like(states_BTW).uniform_(-limit, limit)

    # Encoder and decoder call modules of their own, which share no more than the weights with that of the model.
    stacks = [model.base_model.encoder, model.base_model.decoder] if model.config.is_encoder_decoder else [model]
    return [embedding.register_forward_hook(noisy) for embedding in {stack.get_input_embeddings(): None for stack in stacks}]
