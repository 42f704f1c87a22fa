"""What architectures of `transformers` do differently: asked of the model, not of its name.

In: a model, or its folder. Out: whether it has two parts, whether it labels, where its positions begin and how many it has,
whether it takes token types, how far its layers look back.
"""

import json
from pathlib import Path
from typing import Any


def is_encoder_decoder(folder: Path) -> bool:
    """Whether the model of a folder reads by one part and writes by another."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return bool(config.get("is_encoder_decoder"))


def says_labels(folder: Path) -> bool:
    """Whether the model of a folder labels text and writes none; an adapter's folder has no configuration, and writes."""
    path = folder / "config.json"
    architectures = json.loads(path.read_text(encoding="utf-8")).get("architectures") if path.exists() else None
    return any(name.endswith(("ForSequenceClassification", "ForTokenClassification")) for name in architectures or ())


def first_position(model: Any) -> int:
    """Returns the number of a text's first position: RoBERTa and those after it count from the padding's id on."""
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def num_positions(model: Any) -> int | None:
    """Returns the tokens of the longest text it can read; none where it counts none."""
    config = model.config
    stated = getattr(config, "max_position_embeddings", getattr(config, "n_positions", None))  # T5's name for it
    return None if stated is None else int(stated) - first_position(model)


def takes_types(model: Any) -> bool:
    """Whether the model tells the two texts of a pair apart by token types."""
    return int(getattr(model.config, "type_vocab_size", None) or 0) > 1


def shortest_window(model: Any) -> int | None:
    """Returns the positions that the layer that looks back least looks back over; none where all look back over everything."""
    config = model.config
    windows = [getattr(part, "sliding_window", None) for part in model.modules()]
    if getattr(config, "layer_types", None) is None:  # where layers do not differ, they may ask the configuration
        windows.append(getattr(config, "sliding_window", None))
    return min((window for window in windows if window), default=None)
