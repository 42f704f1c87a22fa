"""The stage runner: reuse, contracts, damage, locks, full disks, retries on a real Prefect server."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.plan import differing_fields
from tasks.core.errors import ContractError, GateError, StageError, TransientError
from tasks.core.run import Observer, Run, running
from tasks.core.site import Site
from tasks.core.stage import Stage, StageContext, stage
from tasks.core.store import Store, process_alive, read_manifest
from tests.core.toys import CountSpec, Numbers, Scaled, ScaleSpec, count, scale

TELLING = dataclasses.replace(scale, by_origin=True)


class Watcher(Observer):
    """Notes the results of stages."""

    def __init__(self) -> None:
        self.results: list[tuple[str, str]] = []

    def finished(self, record) -> None:
        self.results.append((record.name, record.result))


class Records(Watcher):
    """Notes what stages are shown as."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def finished(self, record) -> None:
        self.names.append(record.shown_name)


def results(site: Site, *specs: tuple[CountSpec, ScaleSpec]) -> list[tuple[str, str]]:
    watcher = Watcher()
    with running(Run(site, observers=[watcher])):
        for count_spec, scale_spec in specs:
            scale.outcome(scale_spec, count.outcome(count_spec).artifact)
    return watcher.results


def test_a_second_run_reuses_and_one_field_rebuilds_only_what_is_below(site: Site) -> None:
    first, same, changed = (CountSpec(), ScaleSpec()), (CountSpec(), ScaleSpec()), (CountSpec(), ScaleSpec(factor=3))
    assert results(site, first, same, changed) == [
        ("count", "built"),
        ("scale", "built"),
        ("count", "reused"),
        ("scale", "reused"),
        ("count", "reused"),
        ("scale", "built"),
    ]


def test_upstream_rebuilt_to_the_same_bytes_lets_downstream_be_reused(site: Site) -> None:
    """A changed seed rebuilds `count`, but to the same bytes; `extra/` does not count."""
    outcome = results(site, (CountSpec(), ScaleSpec()), (CountSpec(seed=1), ScaleSpec()))
    assert outcome[2:] == [("count", "built"), ("scale", "reused")]


def test_where_origins_tell_equal_bytes_that_were_made_otherwise_are_another_input(site: Site) -> None:
    made = [count.build(CountSpec(seed=seed), site=site) for seed in (0, 0, 1)]
    plain, telling = ([one.fingerprint(ScaleSpec(), (numbers,), site) for numbers in made] for one in (scale, TELLING))
    assert plain[0] == plain[1] == plain[2]
    assert telling[0] == telling[1] != telling[2]
    manifest = read_manifest(TELLING.build(ScaleSpec(), made[0], site=site).path)
    wanted = TELLING.recipe_of(ScaleSpec(), (made[2],), site)
    before, after = made[0].fingerprint[:12], made[2].fingerprint[:12]
    assert differing_fields(manifest, wanted) == [f"making of numbers: {before} -> {after}"]


def test_the_site_never_enters_a_fingerprint(site: Site, tmp_path: Path) -> None:
    numbers = count.build(CountSpec(), site=site)
    values = {
        "state_dir": tmp_path / "other", "data_dir": tmp_path / "data",
        "device": "cuda", "num_processes": 7, "num_threads": 3, "data_workers": 9,
        "data_engine": "ray", "ray_address": "auto", "slurm_partition": "cpu", "data_task_s": 60,
        "sharding": "fsdp2",
        "micro_batch_rows": 4, "compile": True, "recompute_activations": True, "loss_chunk_tokens": 64,
        "mlflow_uri": "http://127.0.0.1:1", "mlflow_token": "secret", "prefect_api_url": "http://127.0.0.1:2",
        "engine": "vllm", "host": "localhost", "serve_port": 99, "retry_delay_s": 5.0, "lock_wait": False, "tracker_wait_s": 1.0,
    }  # fmt: skip
    nodes = {"num_nodes": 2, "node_rank": 1, "rendezvous": "node0:29400"}
    assert values.keys() | nodes.keys() == Site.model_fields.keys()
    assert scale.fingerprint(ScaleSpec(), (numbers,), Site(**nodes)) == scale.fingerprint(ScaleSpec(), (numbers,), site)
    expected = scale.fingerprint(ScaleSpec(), (numbers,), site)
    for name, value in values.items():
        changed = Site(**{name: value})
        assert getattr(changed, name) != getattr(site, name)
        assert scale.fingerprint(ScaleSpec(), (numbers,), changed) == expected, name


def test_an_artifact_is_a_frozen_value_with_a_manifest_that_tells_its_origin(site: Site) -> None:
    numbers = count.build(CountSpec(), site=site)
    scaled = scale.build(ScaleSpec(), numbers, site=site)
    manifest = read_manifest(scaled.path)
    assert scaled.path == site.store_dir / "scaled" / scaled.fingerprint[:12]
    assert manifest.inputs["numbers"].digest == numbers.digest
    assert manifest.facts == {"total": 12}
    assert {
        "commit",
        "dirty",
        "lock",
        "command",
        "libraries",
        "host",
        "device",
        "seed",
        "started",
        "ended",
    } <= manifest.provenance.keys()
    with pytest.raises(ValidationError, match="frozen"):
        scaled.total = 1


def test_one_flipped_byte_in_an_input_is_refused_by_name(site: Site) -> None:
    numbers = count.build(CountSpec(), site=site)
    path = numbers.path / "numbers.txt"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(ContractError, match=r"numbers\.txt is damaged: sha256 .* Remove .* and run again"):
        scale.build(ScaleSpec(), numbers, site=site)


def test_a_truncated_artifact_is_refused_when_it_is_found(site: Site) -> None:
    numbers = count.build(CountSpec(), site=site)
    (numbers.path / "numbers.txt").write_bytes(b"1")
    with pytest.raises(ContractError, match="has 1 bytes, 5 were committed"):
        count.build(CountSpec(), site=site)


def test_nothing_without_a_manifest_counts(site: Site) -> None:
    numbers = count.build(CountSpec(), site=site)
    (numbers.path / "manifest.json").unlink()
    assert Store(site.store_dir).find(Numbers, numbers.fingerprint) is None


def test_what_is_committed_is_never_written_again(site: Site) -> None:
    numbers = count.build(CountSpec(), site=site)
    with pytest.raises(ContractError, match="is committed already"):
        Store(site.store_dir).commit(read_manifest(numbers.path), numbers.path)


def test_what_a_removal_left_that_was_cut_short_blocks_nothing(site: Site) -> None:
    numbers = count.build(CountSpec(), site=site)
    (numbers.path / "manifest.json").unlink()
    assert Store(site.store_dir).remains() == [numbers.path]
    assert count.build(CountSpec(), site=site) == numbers
    assert Store(site.store_dir).remains() == []


def test_a_manifest_half_written_by_a_kill_is_no_part_of_the_artifact(site: Site) -> None:
    def fn(spec: CountSpec, *, ctx: StageContext) -> Numbers:
        (ctx.dir / ".manifest.json.4711").write_text("{")
        return count.fn(spec, ctx=ctx)

    made = dataclasses.replace(count, fn=fn).build(CountSpec(), site=site)
    assert not (made.path / ".manifest.json.4711").exists()
    assert made.digest == count.build(CountSpec(seed=1), site=site).digest


def test_inputs_of_the_wrong_kind_are_refused(site: Site) -> None:
    numbers = count.build(CountSpec(), site=site)
    with pytest.raises(ContractError, match="scale takes a Numbers as numbers, not Scaled"):
        scale.build(ScaleSpec(), scale.build(ScaleSpec(), numbers, site=site), site=site)
    with pytest.raises(ContractError, match=r"scale takes \['numbers'\], but was given 0 artifacts"):
        scale.build(ScaleSpec(), site=site)


def bad_spec(spec: int, *, ctx: StageContext) -> Numbers: ...


def bad_input(spec: CountSpec, numbers: int, *, ctx: StageContext) -> Numbers: ...


def bad_ctx(spec: CountSpec, ctx: StageContext) -> Numbers: ...


def bad_output(spec: CountSpec, *, ctx: StageContext) -> int: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (bad_spec, "first parameter must be a Spec"),
        (bad_input, "parameter `numbers` must be an Artifact"),
        (bad_ctx, "keyword-only `ctx"),
        (bad_output, "must return an Artifact"),
    ],
)
def test_the_signature_is_checked_at_import(function, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        stage(version=1)(function)


def broken(site: Site, error: BaseException, times: int = 99) -> Stage[Numbers]:
    """Returns `count` failing with `error` the first `times` times."""
    calls = iter(range(1_000))

    def fn(spec: CountSpec, *, ctx: StageContext) -> Numbers:
        if next(calls) < times:
            raise error
        return count.fn(spec, ctx=ctx)

    return dataclasses.replace(count, fn=fn)


def test_facts_that_cannot_be_true_are_a_stage_error(site: Site) -> None:
    def fn(spec: CountSpec, *, ctx: StageContext) -> Numbers:
        return ctx.commit(Numbers, total="many")

    with pytest.raises(StageError, match="facts that cannot be true"):
        dataclasses.replace(count, fn=fn).build(CountSpec(), site=site)


def run_in_flow(site: Site, count_stage: Stage[Numbers], until: str | None = None) -> tuple[list[tuple[str, str]], list]:
    """Runs both toy stages in a real flow; returns what a watcher saw and the flow's task runs."""
    from prefect import flow, get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    watcher, ids = Watcher(), []

    @flow
    def toys() -> None:
        from prefect.runtime import flow_run

        ids.append(flow_run.get_id())
        with running(Run(site, until=until, observers=[watcher])):
            scale(ScaleSpec(), count_stage(CountSpec()))

    state = toys(return_state=True)
    with get_client(sync_client=True) as client:
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[ids[0]])))
    watcher.state = state
    return watcher, sorted(tasks, key=lambda task: task.start_time)


def test_in_a_flow_each_stage_is_a_task_and_reused_ones_say_so(site: Site, prefect_api: str) -> None:
    _, tasks = run_in_flow(site, count)
    assert [(task.name.split("-")[0], task.state_name) for task in tasks] == [("count", "Completed"), ("scale", "Completed")]
    assert [source.id for source in tasks[1].task_inputs["inputs"]] == [tasks[0].id]
    _, tasks = run_in_flow(site, count)
    assert [task.state_name for task in tasks] == ["Reused", "Reused"]


def test_a_transient_error_is_retried_in_the_same_run(site: Site, prefect_api: str) -> None:
    watcher, tasks = run_in_flow(site, broken(site, TransientError("the network went away"), times=1))
    assert watcher.results == [("count", "failed"), ("count", "built"), ("scale", "built")]
    assert [task.run_count for task in tasks] == [2, 1]


@pytest.mark.parametrize("error", [GateError("no"), ContractError("not that"), ValueError("a defect")])
def test_nothing_else_is_retried(site: Site, prefect_api: str, error: Exception) -> None:
    watcher, tasks = run_in_flow(site, broken(site, error))
    assert watcher.results == [("count", "failed")]
    assert [(task.state_name, task.run_count) for task in tasks] == [("Failed", 1)]
    with pytest.raises(type(error), match=str(error)):
        watcher.state.result()


def test_two_runs_on_the_same_artifact_build_it_once(site: Site) -> None:
    began, made = threading.Event(), []

    def slow(spec: CountSpec, *, ctx: StageContext) -> Numbers:
        made.append(ctx.dir)
        began.set()
        time.sleep(0.5)
        return count.fn(spec, ctx=ctx)

    slow_count = dataclasses.replace(count, fn=slow)
    thread = threading.Thread(target=lambda: slow_count.build(CountSpec(), site=site))
    thread.start()
    began.wait(10)
    impatient = site.model_copy(update={"lock_wait": False})
    with pytest.raises(TransientError, match=r'is being built by \{"host".*run again when it has ended'):
        slow_count.build(CountSpec(), site=impatient)
    assert slow_count.build(CountSpec(), site=site).total == 6
    thread.join()
    assert len(made) == 1


_KILLED = """
import os, sys, dataclasses
from tests.core.toys import CountSpec, count
def fn(spec, *, ctx):
    (ctx.dir / "half.txt").write_text("half")
    os.kill(os.getpid(), 9)
dataclasses.replace(count, fn=fn).build(CountSpec())
"""


def test_a_killed_builder_leaves_a_folder_that_counts_for_nothing_and_a_lock_that_is_free(site: Site) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED], timeout=60)
    assert done.returncode == -9
    assert [path.name for path in Store(site.store_dir).partials()[0].iterdir()] == ["half.txt"]
    assert list(Store(site.store_dir).manifests()) == []
    assert count.build(CountSpec(), site=site.model_copy(update={"lock_wait": False})).total == 6


_NAMED = """
import json, time
from pathlib import Path
from tasks.core.store import process_identity
Path("/proc/self/comm").write_text(") Z (a")
print(json.dumps(process_identity()), flush=True)
time.sleep(600)
"""


def test_a_process_lives_until_it_ends_whatever_the_clock_and_its_name_say(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", _NAMED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    identity = json.loads(process.stdout.readline())
    monkeypatch.setattr("psutil.Process.create_time", lambda self: time.time())  # the clock was stepped
    assert process_alive(identity) is True
    assert process_alive(identity | {"start_ticks": identity["start_ticks"] + 1}) is False, "its number was used before"
    before = {key: value for key, value in identity.items() if key != "start_ticks"} | {"started": 1.0}
    assert process_alive(before) is True, "a record of an earlier version has a time, which says nothing"
    assert process_alive(identity | {"host": "another"}) is None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert (process_alive(identity), process_alive(before)) == (False, False), "a zombie"
    process.wait()
    assert (process_alive(identity), process_alive(before)) == (False, False)


def test_the_role_of_a_model_is_part_of_what_a_stage_is_shown_as(site: Site) -> None:
    class RoleSpec(ScaleSpec):
        role: str

    watcher, numbers = Records(), count.build(CountSpec(), site=site)
    failing = dataclasses.replace(scale, fn=lambda spec, numbers, *, ctx: scale.fn(spec, ctx.missing, ctx=ctx))
    with running(Run(site, observers=[watcher])):
        scale.outcome(RoleSpec(role="base"), numbers)
        with pytest.raises(AttributeError):
            failing.outcome(RoleSpec(role="tuned"), numbers)
        scale.outcome(ScaleSpec(), numbers)
    assert watcher.names == ["scale-base", "scale-tuned", "scale"]


def test_a_run_until_a_stage_ends_when_it_was_asked_about_the_tuned_model() -> None:
    class RoleSpec(ScaleSpec):
        role: str

    twice = dataclasses.replace(scale, base_first=True)
    assert [twice.ends("scale", RoleSpec(role=role)) for role in ("base", "tuned")] == [False, True]
    assert scale.ends("scale", RoleSpec(role="base")), "it is asked about nothing else"
    assert twice.ends("scale", ScaleSpec())
    assert not scale.ends("count", ScaleSpec())
    assert not scale.ends(None, ScaleSpec())


_FULL = """
import resource, signal
from tests.core.toys import CountSpec, count, scale, ScaleSpec
numbers = count.build(CountSpec(numbers=(1, 2, 3)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
count.build(CountSpec(numbers=tuple(range(1000))))
"""


def test_a_full_disk_is_a_clear_error_and_finished_work_is_intact(site: Site) -> None:
    done = subprocess.run([sys.executable, "-c", _FULL], capture_output=True, text=True, timeout=60)
    assert "no space left to write" in done.stderr
    assert "textmill gc --dry-run" in done.stderr
    store = Store(site.store_dir)
    kept = [store.load(Numbers, folder) for folder, _ in store.manifests()]
    assert [numbers.total for numbers in kept] == [6]
    store.verify(kept[0])


def test_the_manifest_is_plain_json_and_names_no_state_folder(site: Site) -> None:
    numbers = count.build(CountSpec(), site=site)
    manifest = json.loads((numbers.path / "manifest.json").read_text())
    del manifest["provenance"]
    assert str(site.root) not in json.dumps(manifest)


def test_scaled_is_not_numbers(site: Site) -> None:
    numbers = count.build(CountSpec(), site=site)
    with pytest.raises(ContractError, match="holds numbers version 1, not scaled version 1"):
        Store(site.store_dir).load(Scaled, numbers.path)


def test_a_stage_may_take_any_number_of_its_last_input(site: Site) -> None:
    @stage(version=1, name="total")
    def total(spec: ScaleSpec, first: Scaled, *numbers: Numbers, ctx: StageContext) -> Scaled:
        (ctx.dir / "scaled.txt").write_text("x")
        return ctx.commit(Scaled, total=first.total + sum(one.total for one in numbers))

    one, two = count.build(CountSpec()), count.build(CountSpec(numbers=(4, 5)))
    first = scale.build(ScaleSpec(), one)
    made = total.build(ScaleSpec(), first, one, two)
    assert made.total == 12 + 6 + 9
    assert list(read_manifest(made.path).inputs) == ["first", "numbers/1", "numbers/2"]
    assert total.lookup(ScaleSpec(), first, one, two, site=site) == made
    assert total.lookup(ScaleSpec(), first, two, one, site=site) is None
    with pytest.raises(ContractError, match=r"total takes \['first', 'numbers'\], but was given 1 artifacts"):
        total.build(ScaleSpec(), first)
    with pytest.raises(ContractError, match="total takes a Numbers as numbers/2, not Scaled"):
        total.build(ScaleSpec(), first, one, first)
