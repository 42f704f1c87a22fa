"""What a training will cost: parameters, FLOPs and bytes of memory, before anything is built.

In: a `ModelSpec`, a vocabulary, a budget. Out: numbers. Invariant: pure arithmetic, no torch; the parameter count is exact (a
test holds it against the real model on the meta device), the memory is an estimate of the largest moment of a step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.modeling.job import Compute
from tasks.modeling.scaling import hidden_flops_per_token
from tasks.modeling.specs import Family, ModelSpec, ResolvedPrecision, TrainSpec

MICRO_TOKENS = {"cpu": 2048, "cuda": 16384}  # a micro-batch whose activations stay in a CPU's caches is the fastest
ASKED_TOKENS = {"cpu": 4096, "cuda": 65536}  # of a forward pass alone, which keeps nothing
ROW_TOKENS = 1024  # longer rows are worth their attention only to longer texts

PLAIN = Compute()
SIZED: tuple[Family, ...] = ("llama", "qwen3")  # the families whose weights are counted here

# Bytes a weight while training: fp32 weight, fp32 gradient, two fp32 moments of AdamW (Muon has one); a running mean on top.
_TRAINING_BYTES_PER_WEIGHT = 16
_AVERAGE_BYTES_PER_WEIGHT = 4
_WEIGHT_BYTES, _HALF_BYTES = 4, 2
# Logits, their fp32 copy and its gradient.
_LOGIT_BYTES = {"fp32": 12, "bf16": 10, "fp16": 10}
_ACTIVATION_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
# What torch, transformers and the kernels themselves take of a process.
_PROCESS_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Parameters:
    """How many weights a model has, by what they do.

    Attributes:
        embedding: The input embedding, and the output layer where it is not the same matrix.
        matrices: The products of all layers.
        vectors: Norms.
    """

    embedding: int
    matrices: int
    vectors: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.matrices + self.vectors


def parameters(spec: ModelSpec, vocab_size: int) -> Parameters:
    """Returns the weights of a decoder of one of the `SIZED` families, shared ones once."""
    sizes = spec.sizes
    norms = 2 * sizes.width + (2 * sizes.head_width if spec.family == "qwen3" else 0)
    return Parameters(
        embedding=vocab_size * sizes.width * (1 if spec.tie_embeddings else 2),
        matrices=spec.num_matrix_weights,
        vectors=spec.depth * norms + sizes.width,
    )


def lora_parameters(spec: ModelSpec, rank: int) -> int:
    """Returns the weights of low-rank updates beside every linear layer of a decoder, the output layer apart."""
    sizes = spec.sizes
    queries, keys = sizes.num_heads * sizes.head_width, sizes.num_kv_heads * sizes.head_width
    attention = 2 * (sizes.width + queries) + 2 * (sizes.width + keys)
    return spec.depth * rank * (attention + 3 * (sizes.width + sizes.ffn_width))


def sizes_of(config: Mapping[str, Any], context_tokens: int) -> ModelSpec | None:
    """Returns the spec of a model that was not made from one, by its `transformers` configuration, with rows of `context_tokens`.

    None of a family that is not counted, or whose heads are of another width than width over heads.
    """
    family = config.get("model_type")
    if family not in SIZED or config.get("head_dim") not in (None, config["hidden_size"] // config["num_attention_heads"]):
        return None
    return ModelSpec(
        family=family,
        depth=config["num_hidden_layers"],
        width=config["hidden_size"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config.get("num_key_value_heads"),
        ffn_width=config["intermediate_size"],
        context_tokens=context_tokens,
        tie_embeddings=config.get("tie_word_embeddings", False),
    )


def flops_per_token(spec: ModelSpec, vocab_size: int) -> int:
    """Returns the FLOPs of one training token, forward and backward.

    Those of the hidden layers, and six a weight of the output layer; the input embedding is looked up.
    """
    return hidden_flops_per_token(spec) + 6 * vocab_size * spec.sizes.width


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one device at the largest moment of a training step."""

    states: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it, the process itself included."""
        return self.states + self.activations + self.logits + _PROCESS_BYTES


def training_memory(
    spec: ModelSpec,
    vocab_size: int,
    micro_tokens: int,
    precision: ResolvedPrecision,
    *,
    num_shards: int = 1,
    has_average: bool = False,
    num_adapted: int | None = None,
    compute: Compute = PLAIN,
    keeps_scores: bool = True,
) -> Memory:
    """Estimates the memory of a training step on one device.

    Args:
        spec: The model.
        vocab_size: Entries of the tokenizer.
        micro_tokens: Tokens of one forward pass.
        precision: Number format of products; weights and optimiser are fp32 in either.
        num_shards: Devices that weights, gradients and moments are cut over.
        has_average: A running mean of the weights is kept.
        num_adapted: Weights of an adapter, where it alone is trained: the model's are kept in fp32 and, for the backward pass,
            in the number format of products.
        compute: Recomputed layers keep their input, and the values of one layer at a time; logits come in chunks.
        keeps_scores: Attention scores are kept for the backward pass, as on a CPU; a GPU's fused kernel makes them again.

    Activations a layer and token: 17 widths, the feed-forward's three inner values, and heads * context scores four times
    (after Korthikanti et al., arXiv:2205.05198, section 4.1, for a gated feed-forward).
    """
    sizes = spec.sizes
    scores = 4 * sizes.num_heads * spec.context_tokens if keeps_scores else 0
    layer = 17 * sizes.width + 3 * sizes.ffn_width + scores
    values = layer + spec.depth * sizes.width if compute.recompute_activations else spec.depth * layer
    state_bytes = _TRAINING_BYTES_PER_WEIGHT + (_AVERAGE_BYTES_PER_WEIGHT if has_average else 0)
    total, frozen_bytes = parameters(spec, vocab_size).total, _WEIGHT_BYTES + (0 if precision == "fp32" else _HALF_BYTES)
    states = state_bytes * total if num_adapted is None else frozen_bytes * total + state_bytes * num_adapted
    return Memory(
        states=states // num_shards,
        activations=micro_tokens * values * _ACTIVATION_BYTES[precision],
        logits=min(micro_tokens, compute.loss_chunk_tokens or micro_tokens) * vocab_size * _LOGIT_BYTES[precision],
    )


def tokens_of_row(context_tokens: int | None, longest: int) -> int:
    """Returns how long rows are where nobody asked: attention costs its square, so a long context is not filled for short texts.

    Args:
        context_tokens: What a model can read; none: it counts no positions.
        longest: Tokens of the longest text.
    """
    wanted = max(longest, ROW_TOKENS)
    return wanted if context_tokens is None else min(context_tokens, wanted)


def budget_tokens(spec: ModelSpec, train: TrainSpec, train_tokens: int | None) -> int | None:
    """Returns the tokens a training reads; none where that depends on text nobody has encoded yet."""
    if train.num_tokens is not None:
        row_tokens = spec.context_tokens
        return train.num_steps(1, row_tokens) * train.batch_rows * row_tokens
    if train_tokens is None:
        return None
    num_rows = -(-train_tokens // spec.context_tokens)
    return train.num_steps(num_rows, spec.context_tokens) * train.batch_rows * spec.context_tokens
