"""`transformers serve` that ends an answer where the model's context ends; its continuous batching writes on.

In: its own command line. Out: its server. Invariants: an answer ends where that of the registered model does
(`tasks.registry.served_model`); a prompt that fills the context is refused and harms no other request: positions that a model
has not learned kill the worker for good.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from tasks.modeling.architecture import num_positions

Generate = Callable[..., Any]


def within_context(generate: Generate) -> Generate:
    """Returns a `generate_*` of the batching manager that lets no request go beyond the model's context."""

    @wraps(generate)
    def bounded(manager: Any, model: Any, processor: Any, inputs: dict[str, Any], gen_config: Any, **others: Any) -> Any:
        gen_config.max_new_tokens = room_for(model, len(inputs["input_ids"]), gen_config.max_new_tokens)
        return generate(manager, model, processor, inputs, gen_config, **others)

    return bounded


def room_for(model: Any, num_prompt_tokens: int, max_new_tokens: int | None) -> int | None:
    """Returns how many tokens an answer may have (none: no bound); the last one is never read.

    Raises:
        HTTPException: The prompt leaves no room; a client gets status 400.
    """
    from fastapi import HTTPException

    positions = num_positions(model)
    if positions is None:
        return max_new_tokens
    if num_prompt_tokens >= positions:
        said = f"the prompt has {num_prompt_tokens} tokens, the model's context {positions}: shorten it"
        raise HTTPException(status_code=400, detail=said)
    room = positions - num_prompt_tokens + 1
    return room if max_new_tokens is None else min(max_new_tokens, room)


def main() -> None:
    """Runs `transformers` with its arguments."""
    from transformers.cli.serving.utils import CBGenerateManager
    from transformers.cli.transformers import app

    CBGenerateManager.generate_streaming = within_context(CBGenerateManager.generate_streaming)
    CBGenerateManager.generate_non_streaming = within_context(CBGenerateManager.generate_non_streaming)
    app()


if __name__ == "__main__":
    main()
