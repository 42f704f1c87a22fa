"""The real engine: it answers as the registered model does, it stops, and what cannot be served is said so."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from deploy import live, serve, trial
from deploy.engine import room_for
from deploy.live import open_chat, resolve, start_detached, stop_detached
from deploy.rollout import DeploySpec, deploy_model, rollback
from deploy.scoring import ANSWER_LIMIT_S, label_at, scoring_environment
from deploy.serve import ask, ask_at, check_port, engine_command, free_port, healthy, served
from tasks.contracts import ModelVersion
from tasks.core.child import marked_processes
from tasks.core.errors import ContractError, GateError, RecipeError, StageError, TransientError
from tasks.core.site import Site
from tasks.core.store import process_identity
from tasks.core.tracking import aliases, champion
from tasks.core.tracking.spool import delivery_environment
from tests.registry.kit import Chain, cached_model, make_chain, register

Released = tuple[ModelVersion, Chain]
SPEC = DeploySpec(prompts=("the quick brown fox", "今天天气"), max_new_tokens=24)


def processes_of_this_test() -> list[int]:
    """Marked children, but for the Prefect server that all tests share."""
    marked = marked_processes(f"{os.getpid()}-")
    return [pid for pid in marked if b"flows.servers" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def await_true(condition, limit_s: float = 60.0):
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)
    return value


def test_the_champion_is_served_and_answers_as_registered(site: Site, first: Released) -> None:
    version, chain = first
    deployment = deploy_model.build(SPEC, version, chain.tuned, site=site)
    answers = json.loads((deployment.path / "answers.json").read_text())
    assert [item["prompt"] for item in answers] == list(SPEC.prompts)
    assert all(item["answer"] for item in answers)
    assert (deployment.engine, deployment.num_checks) == ("transformers", 3)
    assert aliases(site, "toy")["live"] == 1
    assert processes_of_this_test() == [], "the server ends with the stage"


def test_a_port_in_use_is_said_so(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            pytest.raises(RecipeError, match=rf"cannot serve on 127\.0\.0\.1:{port}: Address already in use"),
            served(cached_model(1, "llama"), site, port=port),
        ):
            pass
    check_port("127.0.0.1", port)


def test_a_folder_without_a_model_is_said_so(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="is no model folder"), served(tmp_path, site):
        pass


def test_the_engine_binds_to_the_site_and_has_bounded_memory(site: Site) -> None:
    command = engine_command(cached_model(1, "llama"), site, 1234)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--cb-num-blocks") + 1] == "16"
    assert command[-1] == "model"
    vllm = engine_command(cached_model(1, "llama"), site.model_copy(update={"engine": "vllm"}), 1234)
    assert vllm[:2] == ["vllm", "serve"]
    assert vllm[vllm.index("--served-model-name") + 1] == "model"


def test_a_model_is_found_by_name_alias_version_or_folder(site: Site, first: Released, tmp_path: Path) -> None:
    assert resolve(site, "toy").version.version == 1
    assert resolve(site, "toy@champion").version == resolve(site, "toy:1").version
    assert resolve(site, str(tmp_path)).folder == tmp_path
    with pytest.raises(RecipeError, match=r"the registry has no toy@live \(toy has candidate -> 1, champion -> 1\)"):
        resolve(site, "toy@live")
    with pytest.raises(RecipeError, match="neither a folder nor NAME"):
        resolve(site, "no/such/folder")


def test_a_folder_that_is_named_by_a_dot_keeps_its_files(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name / "config.json" for name in ("mine", "other")]
    for file in files:
        file.parent.mkdir()
        file.write_text("{}")
    monkeypatch.chdir(files[0].parent)
    target = resolve(site, ".")
    place = site.root / "serving" / "8000"
    assert serve._named(target.folder, site, target.name, 8000) == place / "mine"
    assert serve._named(files[1].parent, site, "other", 8000).resolve() == files[1].parent
    assert [path.name for path in place.iterdir()] == ["other"]
    (place.parent / "8001").symlink_to(files[0].parent)
    with pytest.raises(ContractError, match=r"8001 is a link to .*/mine, whose files stay as they are: remove the link"):
        serve._named(files[1].parent, site, "other", 8001)
    (place / "notes.txt").touch()
    serve._named(target.folder, site, target.name, 8000)
    assert sorted(path.name for path in place.iterdir()) == ["mine", "notes.txt"]
    assert all(file.exists() for file in files)


def test_only_a_server_on_a_named_port_is_on_the_address_of_the_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts: list[str] = []

    def start(folder: Path, site: Site, name: str, port: int) -> None:
        hosts.append(site.host)
        raise StageError("enough is known")

    monkeypatch.setattr(serve, "_start", start)
    for port in (None, free_port("127.0.0.1")):
        with (
            pytest.raises(StageError),
            served(cached_model(1, "llama"), site.model_copy(update={"host": "0.0.0.0"}), port=port),
        ):
            pass
    assert hosts == ["127.0.0.1", "0.0.0.0"]


class Answering(BaseHTTPRequestHandler):
    """A server that is healthy and has one answer."""

    status = 200

    def do_GET(self) -> None:
        self._say({})

    def do_POST(self) -> None:
        self._say({"predictions": ["here"], "choices": [{"message": {"content": "here"}}]})

    def _say(self, body: dict[str, object]) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_our_own_server_is_asked_past_any_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert healthy(url)
        assert (label_at(url, []), ask_at(url, "m", [], 1)) == (["here"], "here")
        for status, error in ((504, TransientError), (400, StageError)):
            monkeypatch.setattr(Answering, "status", status)
            with pytest.raises(error):
                label_at(url, [])
        server.shutdown()


def test_the_scoring_server_waits_as_long_as_we_do(site: Site) -> None:
    assert scoring_environment(site)["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] == f"{ANSWER_LIMIT_S:.0f}"


def test_a_record_of_a_dead_server_is_not_believed(site: Site) -> None:
    path = live.record_file(site, "toy")
    path.parent.mkdir(parents=True, exist_ok=True)
    gone = {"host": os.uname().nodename, "boot_id": "before", "pid": 1, "started": 0.0}
    path.write_text(json.dumps({"url": "http://127.0.0.1:9", "model": "m", "process": gone}))
    assert live.live_record(site, "toy") is None
    path.write_text("not json")
    assert live.live_record(site, "toy") is None


@pytest.mark.parametrize(
    ("positions", "num_prompt_tokens", "max_new_tokens", "room"),
    [(256, 10, 1024, 247), (256, 255, 1024, 2), (256, 10, 24, 24), (None, 10_000, 1024, 1024)],
)
def test_an_answer_ends_where_the_context_does(
    positions: int | None, num_prompt_tokens: int, max_new_tokens: int, room: int
) -> None:
    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=positions), base_model=None)
    assert room_for(model, num_prompt_tokens, max_new_tokens) == room


def test_a_model_of_learned_positions_outlives_requests_beyond_its_context(site: Site, tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=2, n_positions=48, initializer_range=0.3)
    model = GPT2LMHeadModel(config)
    model.generation_config = GenerationConfig(eos_token_id=399, pad_token_id=3, do_sample=False)
    model.save_pretrained(tmp_path / "model")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(cached_model(1, "llama") / file, tmp_path / "model" / file)
    with served(tmp_path / "model", site) as server:
        body = {"model": "model", "messages": [{"role": "user", "content": "the quick"}]}
        said = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()
        assert said["usage"]["total_tokens"] == 48 + 1, "the last token is never read"
        assert said["choices"][0]["finish_reason"] == "length"
        for stream in (False, True):
            body["messages"] = [{"role": "user", "content": "fox " * 80}]
            refused = httpx.post(f"{server.url}/v1/chat/completions", json=body | {"stream": stream}, timeout=60)
            assert (refused.status_code, "the model's context 48: shorten it" in refused.text) == (400, True)
        assert healthy(server.url)


def test_a_server_that_runs_and_is_not_healthy_is_started_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_LOOK_S", 0.0)
    looks = iter([True, *[False] * 5, True, *[False] * 6])
    monkeypatch.setattr(live, "healthy", lambda url: next(looks))
    process = subprocess.Popen(["sleep", "60"])
    server = serve.Server("http://127.0.0.1:9", "model", "transformers", False, process, site.root / "log")
    told: list[str] = []
    target = live.Target(cached_model(1, "llama"))
    try:
        live._wait_until_moved(site, str(target.folder), target, server, told.append)
    finally:
        process.kill()
        process.wait()
    assert "was not healthy 6 times in a row" in told[0]
    assert list(looks) == []


def test_a_server_that_is_not_healthy_is_stopped_all_the_same(site: Site) -> None:
    note = "import json; from tasks.core.store import process_identity; print(json.dumps(process_identity()), flush=True)"
    process = subprocess.Popen([sys.executable, "-c", f"{note}; import time; time.sleep(60)"], stdout=subprocess.PIPE, text=True)
    identity = json.loads(process.stdout.readline())
    path = live.record_file(site, "toy")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"url": "http://127.0.0.1:9", "model": "m", "process": identity}))
    assert live.live_record(site, "toy") is None
    assert stop_detached(site, "toy")
    assert process.wait(10) == -signal.SIGTERM


def test_a_server_takes_its_own_note_away_and_no_other(site: Site, tmp_path: Path) -> None:
    server = serve.Server("http://127.0.0.1:9", "model", "transformers", False, None, site.root / "log")
    path = live.record_file(site, "toy")
    with live._announced(site, "toy", live.Target(tmp_path), server):
        assert json.loads(path.read_text())["process"] == process_identity()
        path.write_text('{"url": "of a second server"}')
    assert path.exists()
    with live._announced(site, "toy", live.Target(tmp_path), server):
        pass
    assert not path.exists()


@pytest.mark.slow
def test_a_model_of_the_qwen_family_answers_as_registered(site: Site) -> None:
    chain = make_chain(site, seed=5, family="qwen3")
    assert deploy_model.build(SPEC, register(site, chain).artifact, chain.tuned, site=site).num_checks == 3


@pytest.mark.slow
def test_answers_that_differ_for_real_leave_the_previous_live(
    site: Site, first: Released, second: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is given the files of version 1 for version 2: what a wrong mount does."""
    files_of_first = trial.served_folder(site, resolve(site, "toy:1").version)
    monkeypatch.setattr(trial, "served_folder", lambda site, version: files_of_first)
    with pytest.raises(GateError, match="toy version 2 is not rolled out, what was live stays live"):
        deploy_model.build(SPEC, second[0], second[1].tuned, site=site)
    assert "live" not in aliases(site, "toy")
    assert processes_of_this_test() == []


@pytest.mark.slow
def test_a_bad_model_is_promoted_and_taken_back(site: Site, first: Released) -> None:
    deploy_model.build(SPEC, first[0], first[1].tuned, site=site)
    chain = make_chain(site, seed=2)
    deploy_model.build(SPEC, register(site, chain).artifact, chain.tuned, site=site)
    assert rollback(site, "toy", reason="bad answers").version == 1
    assert aliases(site, "toy") == {"candidate": 2, "champion": 1, "live": 1}


@pytest.mark.slow
def test_a_broken_model_says_what_the_engine_said(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(cached_model(1, "llama"), folder)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(StageError, match="the model server ended with exit status 1; it said:"), served(folder, site):
        pass
    assert processes_of_this_test() == []


@pytest.mark.slow
def test_many_at_once_and_long_prompts_are_answered(site: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with served(cached_model(1, "llama"), site) as server, ThreadPoolExecutor(12) as pool:
        short = [{"role": "user", "content": "the quick"}]
        alone = ask(server, short, 16)
        assert set(pool.map(lambda _: ask(server, short, 16), range(12))) == {alone}
        assert ask(server, [{"role": "user", "content": "fox " * 80}], 8)


@pytest.mark.slow
def test_the_foreground_server_follows_the_alias_and_ends_on_sigterm(site: Site, first: Released) -> None:
    environment = delivery_environment(site) | {"TEXTMILL_SERVE_PORT": str(free_port("127.0.0.1"))}
    process = subprocess.Popen([sys.executable, "-m", "deploy.live", "toy"], env=environment, stderr=subprocess.PIPE)
    try:
        record = await_true(lambda: live.live_record(site, "toy"))
        assert record["version"] == 1
        with open_chat(site, "toy") as chat:
            first_answer = chat("the quick brown fox", 8)
            assert chat("and then", 8)
        register(site, make_chain(site, seed=2))
        record = await_true(lambda: (found := live.live_record(site, "toy")) and found["version"] == 2 and found)
        with open_chat(site, "toy") as chat:
            assert chat("the quick brown fox", 8) != first_answer
        marked = marked_processes(f"{process.pid}-")
        assert marked
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not healthy(record["url"])
    assert not live.record_file(site, "toy").exists()


@pytest.mark.slow
def test_a_killed_foreground_server_leaves_no_engine(site: Site, first: Released) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.live", "toy"], env=delivery_environment(site), stderr=subprocess.DEVNULL
    )
    record = await_true(lambda: live.live_record(site, "toy"))
    process.kill()
    process.wait()
    await_true(lambda: not healthy(record["url"]), limit_s=10)
    assert live.live_record(site, "toy") is None


@pytest.mark.slow
def test_a_detached_server_stays_until_it_is_stopped(site: Site, first: Released) -> None:
    url = start_detached(site, "toy")
    assert start_detached(site, "toy") == url, "one server a model"
    assert ask_at(url, "toy", [{"role": "user", "content": "the quick"}], 4), "clients call it by its registered name"
    assert stop_detached(site, "toy")
    assert not healthy(url)
    assert not stop_detached(site, "toy")


@pytest.mark.slow
def test_chat_serves_the_model_itself_where_none_is_served(site: Site, first: Released) -> None:
    with open_chat(site, "toy@champion") as chat:
        assert chat("the quick brown fox", 8)
    assert champion(site, "toy").version == 1
    assert processes_of_this_test() == []
