"""The output layer and its loss at a large vocabulary: torch's cross entropy of all logits, or ours of some targets at a time.

In: `--targets N --width N --vocab-size N --chunk-tokens N --rounds N`. Out: JSON, and a line in `results/train_head.jsonl`. Each
run is a process of its own: forward and backward three times, of which the shortest counts, and the peak of resident memory above
what the process held before. Whole and chunked runs alternate; ratios are those of neighbouring runs. Invariant: losses and
gradients are equal within 1e-4.
"""

import argparse
import os
import resource
import time
from typing import Any

import torch
import torch.nn.functional as F

from tasks.modeling.head import HeadLoss, set_head_loss, target_losses
from tests.bench.child import run_child, say
from tests.bench.result import note, ratios


def child(targets: int, width: int, vocab_size: int, chunk_tokens: int | None) -> None:
    """Runs the layer in this process and prints seconds, bytes, the loss and a gradient's norm."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(width, vocab_size, bias=False).train()
    hidden_NW = torch.randn(targets, width, requires_grad=True)
    targets_N = torch.randint(vocab_size, (targets,))
    set_head_loss(layer, HeadLoss(chunk_tokens=chunk_tokens))
    before, seconds = _peak_bytes(), []
    for _ in range(3):
        hidden_NW.grad = layer.weight.grad = None
        start = time.perf_counter()
        if chunk_tokens is None:
            loss = F.cross_entropy(layer(hidden_NW), targets_N, reduction="sum")
        else:
            loss = target_losses(layer, layer, hidden_NW, targets_N).sum()
        loss.backward()
        seconds.append(time.perf_counter() - start)
    assert hidden_NW.grad is not None
    figures = {
        "seconds": min(seconds),
        "bytes": _peak_bytes() - before,
        "loss": loss.item(),
        "norm": hidden_NW.grad.norm().item(),
    }
    say(figures)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(settings: argparse.Namespace, chunk_tokens: int | None) -> dict[str, Any]:
    """Runs one way in a process of its own."""
    sizes = [str(one) for one in (settings.targets, settings.width, settings.vocab_size, chunk_tokens or 0)]
    return run_child("tests.bench.train_head", *sizes, threads=settings.threads)


def main() -> None:
    """Runs the pairs and writes the result down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=4, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    for name, size in (("targets", 4096), ("width", 384), ("vocab-size", 65_536), ("chunk-tokens", 512), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=size)
    settings = parser.parse_args()
    if settings.child:
        child(*settings.child[:3], settings.child[3] or None)
        return
    pairs = [(measured(settings, None), measured(settings, settings.chunk_tokens)) for _ in range(settings.rounds)]
    for whole, chunked in pairs:
        assert abs(whole["loss"] / chunked["loss"] - 1) < 1e-4
        assert abs(whole["norm"] / chunked["norm"] - 1) < 1e-4
    names = ("targets", "width", "vocab_size", "chunk_tokens", "threads")
    figures = {name: getattr(settings, name) for name in names} | {"pairs": pairs}
    for name in ("seconds", "bytes"):
        figures[f"chunked_to_whole_{name}"] = ratios([whole[name] for whole, _ in pairs], [part[name] for _, part in pairs])
    note("train_head", ("torch",), figures)


if __name__ == "__main__":
    main()
