"""Peak memory of ingest stays bounded: a line of 200 MB, bombs of every compression, records without an end."""

import subprocess
import sys

import pytest

LARGE = r"""
import gzip, re, sys, zstandard
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from tasks.core.site import Site
from tasks.ingest import IngestSpec, ingest
folder = Path(sys.argv[1])
def pieces(number): return (b"x" * 1_000_000 for _ in range(number))
def packed(path): return zstandard.ZstdCompressor().stream_writer(path.open("wb"))
if sys.argv[2] == "line":
    with (folder / "a.jsonl").open("wb") as file: file.writelines(pieces(200))
elif sys.argv[2] == "gzip":
    with gzip.open(folder / "a.csv.gz", "wb", 1) as file: file.writelines(pieces(1_600))
elif sys.argv[2] == "zstd":
    with packed(folder / "a.mbox.zst") as file:
        for piece in pieces(1_600): file.write(piece)
elif sys.argv[2] == "xml":
    with packed(folder / "a.xml.zst") as file:
        file.write(b"<mediawiki><page><text>")
        for piece in pieces(1_600): file.write(piece)
        file.write(b"</text></page></mediawiki>")
elif sys.argv[2] == "warc":
    with packed(folder / "a.warc.zst") as file:
        file.write(b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: 1600000000\r\n\r\n")
        for piece in pieces(1_600): file.write(piece)
        file.write(b"\r\n\r\n")
else:
    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), ["y" * 11_000_000])})
    pq.write_table(table, folder / "a.parquet")
(folder / "good.txt").write_text("fine")
source = {"kind": "files", "name": "x", "licence": "y", "paths": [str(folder / "*")], "mail": {"quoting": "keep"}}
corpus = ingest.build(IngestSpec(sources=[source]), site=Site(state_dir=folder / ".state", data_workers=1))
print(corpus.quarantined, int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "quarantined"),
    [
        ("line", "{'too_large': 1}"),
        ("gzip", "{'no_text': 1}"),
        ("zstd", "{'too_large': 1}"),
        ("xml", "{'too_large': 1}"),
        ("warc", "{'too_large': 1}"),
        ("parquet", "{'too_large': 400}"),
    ],
)
def test_memory_stays_bounded_whatever_comes(tmp_path, kind, quarantined):
    """Peak memory of a process of its own, with a limit of 3 GB on what it may allocate at all."""
    command = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, (3_000_000_000,) * 2)\n{LARGE}"
    done = subprocess.run([sys.executable, "-c", command, str(tmp_path), kind], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reasons, _, peak = done.stdout.strip().rpartition(" ")
    assert reasons == quarantined
    assert int(peak) < 1_500_000_000
