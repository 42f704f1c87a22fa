"""The files of a registered version, and its answers from a fresh process.

In: a registered version. Out: the local folder that is served, and answers of the model as anyone would load it. Invariant:
answers come from `mlflow.pyfunc` in a process that holds nothing of Textmill, offline, with pickle forbidden.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlparse

import filelock

from tasks.core.errors import ContractError, StageError, TransientError
from tasks.core.site import Site, service_environment
from tasks.core.store import write_durably
from tasks.core.text import text_safe
from tasks.core.tracking.client import answering, mlflow_client
from tasks.core.tracking.registry import BASE_DIGEST, BASES, RegisteredVersion, version_by_digest

CHECKPOINT = Path("artifacts", "model")
ADAPTER = Path("artifacts", "adapter")
TRIAL = "trial.json"  # of a labelled model: records to ask, and what it said of them when it was scored
CORPUS_PROFILE = Path("artifacts", "profile")
_WHOLE = ".whole"
_ANSWERS_LIMIT_S = 900.0
# Passed with -c, so that the process has no way to our code.
_ASK = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import mlflow
job = json.load(open(sys.argv[1]))
model = mlflow.pyfunc.load_model(job["uri"])
answers = model.predict(job["prompts"], params={"max_new_tokens": job["max_new_tokens"]})
json.dump(list(answers), open(sys.argv[2], "w"))
"""


def download(site: Site, version: RegisteredVersion) -> Path:
    """Returns a local folder with the version's files: MLflow's own where that is on this machine, else a copy.

    Raises:
        ContractError: The files are gone.
    """
    with answering(site):
        uri = mlflow_client(site).get_model_version_download_uri(version.name, str(version.version))
    parsed = urlparse(uri)
    folder = Path(unquote(parsed.path)) if parsed.scheme == "file" else _downloaded(site, version)
    if not (folder / "MLmodel").exists():
        raise ContractError(
            f"{version} has no files at {folder}: they were removed. Register the model again under another name."
        )
    return folder


def served_folder(site: Site, version: RegisteredVersion) -> Path:
    """Returns the `transformers` folder of a version, which an engine serves; its adapter's where it holds no more than that."""
    folder = download(site, version)
    return folder / (CHECKPOINT if (folder / CHECKPOINT).is_dir() else ADAPTER)


def base_folder(site: Site, version: RegisteredVersion) -> Path:
    """Returns the `transformers` folder of the base that an adapter's version was trained on, from the registry.

    Raises:
        ContractError: The registry does not hold that base any more.
    """
    digest = version.tags.get(BASE_DIGEST)
    base = version_by_digest(site, BASES, digest) if digest else None
    if base is None:
        raise ContractError(
            f"{version} is an adapter on base {str(digest)[:12]}, which is not among the versions of {BASES} any more; run its "
            "recipe again to register the base anew"
        )
    return download(site, base) / CHECKPOINT


def corpus_profile(site: Site, version: RegisteredVersion) -> Path | None:
    """Returns the small profile that a version keeps of its corpus, or None where it keeps none."""
    folder = download(site, version) / CORPUS_PROFILE
    return folder if folder.is_dir() else None


def _downloaded(site: Site, version: RegisteredVersion) -> Path:
    folder = site.root / "cache" / "registered" / version.name / f"{version.version}-{(version.digest or 'unknown')[:12]}"
    if (folder / _WHOLE).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.UnixFileLock(folder.with_name(f"{folder.name}.lock")):
        if not (folder / _WHOLE).exists():
            _download_whole(site, version, folder)
    return folder


def _download_whole(site: Site, version: RegisteredVersion, folder: Path) -> None:
    """Fetches all files before any of them stands in the folder: whoever finds one there may link to it."""
    from mlflow.artifacts import download_artifacts

    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with answering(site):
        download_artifacts(artifact_uri=version.uri, dst_path=str(partial), tracking_uri=site.tracking_uri)
    write_durably(partial / _WHOLE, "")
    shutil.rmtree(folder, ignore_errors=True)  # an earlier release wrote into it and may have been killed
    partial.rename(folder)


def registered_answers(site: Site, version: RegisteredVersion, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Returns the greedy answers of a registered version, loaded in a fresh process.

    Raises:
        StageError: It does not load or does not answer; the message ends with what the process said.
        TransientError: It takes too long.
    """
    with tempfile.TemporaryDirectory() as name:
        job, out = Path(name, "job.json"), Path(name, "answers.json")
        job.write_text(json.dumps({"uri": version.uri, "prompts": prompts, "max_new_tokens": max_new_tokens}), encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-c", _ASK, str(job), str(out)],
                cwd=name,
                env=_environment(site),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_ANSWERS_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            raise TransientError(
                f"{version}, loaded by mlflow.pyfunc, did not answer {len(prompts)} prompts within {_ANSWERS_LIMIT_S:g} s; run "
                "again when this machine is less busy"
            ) from None
        if done.returncode != 0:
            raise StageError(f"{version} does not answer when loaded by mlflow.pyfunc: {text_safe(done.stderr[-2_000:])}")
        answers: list[str] = json.loads(out.read_text(encoding="utf-8"))
    return answers


def _environment(site: Site) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": str(site.num_threads)} if site.num_threads else {}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    return os.environ | service_environment(site) | offline | threads
