"""The sides of `tests.bench.encode`, each in a process of its own that loads what this side needs and nothing else.

In: a side and the folder that `tests.bench.encode` prepared. Out: token files, and the seconds of the work in `seconds`.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

Work = Callable[[], object]

WORKERS = 2
END = "<|endoftext|>"


def ours(work: Path, out: Path) -> Work:
    """Our stage."""
    from tasks.contracts import CleanCorpus, Tokenizer
    from tasks.core.site import Site
    from tasks.core.store import Store
    from tasks.tokenization import EncodeSpec, encode

    store, folders = Store(work / "state" / "store"), json.loads((work / "artifacts.json").read_text(encoding="utf-8"))
    corpus = store.load(CleanCorpus, Path(folders["corpus"]))
    tokenizer = store.load(Tokenizer, Path(folders["tokenizer"]))
    return lambda: encode.build(EncodeSpec(), corpus, tokenizer, site=Site(state_dir=out, data_workers=WORKERS))


def datatrove(work: Path, out: Path) -> Work:
    """datatrove's DocumentTokenizer in two processes, each with its files."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    tokenizer = DocumentTokenizer(
        output_folder=str(out / "tokens"),
        tokenizer_name_or_path=str(work / "tokenizer" / "tokenizer.json"),
        eos_token=END,
        shuffle_documents=False,
        save_final_metadata=False,
    )
    pipeline = [ParquetReader(str(work / "parts")), tokenizer]
    return LocalPipelineExecutor(
        pipeline, tasks=WORKERS, workers=WORKERS, logging_dir=str(out / "logs"), skip_completed=False
    ).run


def datasets(work: Path, out: Path) -> Work:
    """`datasets.map` with a fast tokenizer in two processes, and its table of ids on disk."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    files = sorted(str(path) for path in (work / "parts").glob("*.parquet"))

    def encode() -> None:
        table = load_dataset("parquet", data_files=files, split="train", cache_dir=str(out / "cache"))
        encoded = table.map(
            lambda batch: {"input_ids": tokenizer(batch["text"], add_special_tokens=False)["input_ids"]},
            batched=True,
            num_proc=WORKERS,
            remove_columns=table.column_names,
        )
        encoded.save_to_disk(str(out / "encoded"))

    return encode


def bound(work: Path, out: Path) -> Work:
    """The fast encoder alone: it reads the same parquet files itself, and its ids go to one file; no documents, no splits."""
    import numpy as np
    from gigatoken.gigatoken_rs import ParquetFileSource, load_hf_json

    tokenizer = json.loads((work / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    model = load_hf_json(json.dumps(tokenizer | {"added_tokens": []}).encode())
    files = sorted(str(path) for path in (work / "parts").glob("*.parquet"))

    def encode() -> None:
        found = model.encode_files(ParquetFileSource(files)).layout
        np.asarray(found.content.data).astype(np.uint16).tofile(out / "tokens.bin")

    return encode


def main() -> None:
    """Does the work of one side and writes down its seconds."""
    side, work = sys.argv[1], Path(sys.argv[2])
    run = {"ours": ours, "bound": bound, "datatrove": datatrove, "datasets": datasets}[side](work, work / side)
    start = time.perf_counter()
    run()
    (work / side / "seconds").write_text(str(time.perf_counter() - start))


if __name__ == "__main__":
    main()
