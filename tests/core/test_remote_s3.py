"""Files of a store that speaks S3 over HTTP (moto's server, in a process of its own): the same documents as from a folder."""

import fsspec
import pytest

from flows.servers import free_port
from tasks.core.errors import RecipeError, TransientError
from tasks.core.inputs import find_files
from tasks.ingest import IngestSpec, ingest
from tests.data.kit import documents, read
from tests.served import served

pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")

pytestmark = pytest.mark.slow

ROOT = "s3://corpus/in"
FILES = {"a.txt": "one", "sub/b.jsonl": '{"text": "二"}\n{"text": "three"}\n', "sub/deep/c.md": "four"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    port = free_port("127.0.0.1")
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with served("moto.server", ["-p", str(port)], port, tmp_path / "moto.log") as process:
        yield process


@pytest.fixture
def store(server):
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # it would keep the address of the server before
    system = fsspec.filesystem("s3")
    system.mkdir("corpus")
    for name, text in FILES.items():
        system.pipe(f"corpus/in/{name}", text.encode())
    return system


def spec(*paths):
    return IngestSpec(sources=({"kind": "files", "name": "test", "licence": "x", "paths": paths},))


def test_documents_of_a_bucket_equal_those_of_a_folder(site, store, tmp_path):
    corpus = ingest.build(spec(ROOT), site=site)
    assert sorted(row["text"] for row in documents(corpus)) == ["four", "one", "three", "二"]
    for name, text in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(text, encoding="utf-8")
    assert read(site, tmp_path / "in", licence="x").digest == corpus.digest
    assert [file.name for file in find_files([f"{ROOT}/sub/*.jsonl", f"{ROOT}/a.txt"])] == ["a.txt", "b.jsonl"]


def test_a_second_run_reuses_and_a_changed_object_rebuilds(site, store):
    assert [ingest.outcome(spec(ROOT), site=site).result for _ in range(2)] == ["built", "reused"]
    store.pipe("corpus/in/a.txt", b"two")  # as many bytes
    assert ingest.outcome(spec(ROOT), site=site).result == "built"


def test_what_is_not_there_is_the_users_error(store):
    with pytest.raises(RecipeError, match="nothing matches no file"):
        find_files(["s3://corpus/nothing"])
    with pytest.raises(RecipeError, match="no-bucket/in matches no file"):
        find_files(["s3://no-bucket/in"])


def test_without_credentials_the_error_says_so(store, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(RecipeError, match=r"access to s3://corpus/in is denied: .*credentials"):
        find_files([ROOT])


def test_a_store_that_goes_away_is_passing_trouble(server, store):
    assert find_files([ROOT])
    server.kill()
    server.wait()
    with pytest.raises(TransientError, match="s3://corpus/in could not be read"):
        find_files([ROOT])
