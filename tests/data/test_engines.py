"""Engines: the same bytes from Ray and from Slurm's scripts as from processes of this machine; errors keep their type."""

import os
import subprocess
from pathlib import Path

import pytest

from tasks.cleaning import CleanSpec, DedupSpec, clean, dedup
from tasks.core import tables
from tasks.core.engines import Share, slurm_executor, spread
from tasks.core.errors import ContractError, RecipeError, TransientError
from tasks.core.site import Site
from tests.data.kit import chinese, english, raw_of


def name_of(job: tuple[Path, str]) -> None:
    """A job that writes its name."""
    folder, name = job
    if name == "wrong":
        raise ContractError(f"{name} cannot be read")
    if name == "dead":
        os._exit(9)
    (folder / name).write_text(name)


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A Slurm of one machine: `sbatch` runs each task of a job's array at once, `srun` what it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = (
        "#!/bin/bash\nset -e\nscript=${@: -1}\nbash -n $script\ncp $script " + str(tmp_path) + "/last-$(date +%s%N).slurm\n"
        'last=$(sed -n "s/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p" $script)\n'
        "grep -q merge_stats $script && { echo Submitted batch job 2; exit 0; }\n"
        "for place in $(seq 0 $last); do SLURM_ARRAY_TASK_ID=$place SLURM_NODELIST=localhost bash $script >&2; done\n"
        "echo Submitted batch job 1\n"
    )
    names = {"sbatch": script, "srun": '#!/bin/bash\nshift 3\nexec "$@"\n', "scontrol": "#!/bin/bash\necho localhost\n"}
    for name, text in names.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path


def slurm(folder, **changes):
    return Site(state_dir=folder / "slurm", data_engine="slurm", slurm_partition="cpu", data_workers=2, **changes)


def test_slurm_needs_a_partition_and_sbatch(tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="set TEXTMILL_SLURM_PARTITION"):
        spread(name_of, [(tmp_path, "a")], Site(data_engine="slurm"), tmp_path / "logs")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecipeError, match="no sbatch"):
        spread(name_of, [(tmp_path, "a")], slurm(tmp_path), tmp_path / "logs")


def test_the_slurm_script_asks_for_what_the_site_says(sbatch):
    site = slurm(sbatch, data_task_s=5_399)
    executor = slurm_executor(Share(name_of, [(sbatch, "a")], sbatch), 7, site, sbatch / "logs")
    text = executor.get_launch_file_contents(executor.get_sbatch_args(7), "true")
    path = sbatch / "script.slurm"
    path.write_text(text)
    subprocess.run(["bash", "-n", str(path)], check=True)
    asked = ("partition=cpu", "time=90", "array=0-6%2", "wait", "job-name=textmill-name_of", "mem-per-cpu=2G")
    for line in (f"--{one}" for one in asked):
        assert f"#SBATCH {line}\n" in text, line


def test_jobs_are_shared_out_and_each_is_done_once(tmp_path):
    jobs = [(tmp_path, str(number)) for number in range(5)]
    for rank in range(2):
        Share(name_of, jobs, tmp_path)(None, rank, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3", "4"]


@pytest.mark.slow
def test_slurm_scripts_do_the_work_and_an_error_keeps_its_type(sbatch):
    jobs = [(sbatch, name) for name in ("one", "two", "three")]
    spread(name_of, jobs, slurm(sbatch), sbatch / "logs")
    assert {"one", "two", "three"} <= {path.name for path in sbatch.iterdir()}
    assert not (sbatch / "logs").exists()
    with pytest.raises(ContractError, match="wrong cannot be read"):
        spread(name_of, [(sbatch, "wrong"), (sbatch, "four")], slurm(sbatch), sbatch / "logs")


def test_a_ray_cluster_that_is_named_is_the_one_asked(tmp_path):
    ray = pytest.importorskip("ray")
    site = Site(state_dir=tmp_path, data_engine="ray", ray_address="nowhere")
    try:
        with pytest.raises(RecipeError, match="ray_address 'nowhere' is no address of a Ray cluster"):
            spread(name_of, [(tmp_path, "a")], site, tmp_path / "logs")
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_ray_makes_the_bytes_that_processes_make(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(tables, "_GROUP_ROWS", 20)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    local = Site(state_dir=tmp_path / "local", data_workers=1)
    cluster = Site(state_dir=tmp_path / "ray", data_workers=2, data_engine="ray")
    texts = [(english if number % 2 else chinese)(number) for number in range(80)]
    made = {}
    try:
        for site in (local, cluster):
            raw = raw_of(site, tmp_path, [{"id": f"d{number:03d}", "text": text} for number, text in enumerate(texts)])
            filtered = clean.build(CleanSpec(filters=()), raw, site=site)
            made[site.data_engine] = dedup.build(DedupSpec(), filtered, site=site)
        assert ray.is_initialized()
        assert not home.exists()
        assert made["ray"].digest == made["local"].digest
        assert not list((tmp_path / "ray").rglob("engine"))
        with pytest.raises(ContractError, match="wrong cannot be read"):
            spread(name_of, [(tmp_path, "wrong"), (tmp_path, "four")], cluster, tmp_path / "logs")
        with pytest.raises(TransientError, match="ray gave up"):
            spread(name_of, [(tmp_path, "dead")], cluster.model_copy(update={"data_task_s": 3}), tmp_path / "logs")
    finally:
        ray.shutdown()
