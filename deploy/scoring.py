"""What only MLflow's scoring server serves (labelled models, encoder-decoders, adapters that do not merge): command, question,
comparison.

In: the folder of a registered version, records or messages. Out: answers of `/invocations`. Invariant: labels are compared
exactly, numbers as fp32 in batches of another size gives them.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from tasks.core.errors import ContractError, StageError, TransientError
from tasks.core.site import Site, service_environment
from tasks.core.text import text_safe
from tasks.core.tracking import TRIAL
from tasks.modeling.architecture import is_encoder_decoder, says_labels

ENGINE = "mlflow"
ANSWER_LIMIT_S = 600.0  # here and in the server, which by itself ends each request after a minute
_LIMIT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
TOLERANCE = 1e-3  # of a probability, or of a value as a share of its size
Record = dict[str, Any]


def is_adapter(folder: Path) -> bool:
    """Whether a model folder is an adapter, which only MLflow's server puts into its base."""
    return not (folder / "config.json").exists() and (folder / "base.json").exists()


def needs_scoring_server(folder: Path) -> bool:
    """Whether only MLflow's server serves a model folder: labels, adapters, and encoder-decoders, which no chat engine runs."""
    return is_adapter(folder) or says_labels(folder) or is_encoder_decoder(folder)


def version_folder(folder: Path) -> Path:
    """Returns the folder of the registered version that a model's folder lies in.

    Raises:
        ContractError: It lies in none; a plain folder has no server.
    """
    found = folder.parent.parent
    if not (found / "MLmodel").exists():
        raise ContractError(
            f"{folder} is no registered version, which MLflow's server needs for labels, adapters and encoder-decoders; "
            "give a registered name"
        )
    return found


def scoring_command(folder: Path, site: Site, port: int) -> list[str]:
    """Returns the command line of MLflow's scoring server on this machine's packages."""
    where = ["--model-uri", str(version_folder(folder)), "--host", site.host, "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "models", "serve", *where, "--env-manager", "local", "--workers", "1"]


def scoring_environment(site: Site) -> dict[str, str]:
    """Returns what keeps the scoring server off the network, names the programs beside this Python, and bounds a request."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    limit = {_LIMIT: os.environ.get(_LIMIT, f"{ANSWER_LIMIT_S:.0f}")}
    return service_environment(site) | limit | {"TRANSFORMERS_VERBOSITY": "error", "PATH": beside}


def trial_questions(folder: Path) -> list[dict[str, Record]]:
    """Returns the questions a version carries: each a `record`, and the `expected` answer."""
    found: list[dict[str, Record]] = json.loads((version_folder(folder) / TRIAL).read_text(encoding="utf-8"))
    return found


def label_at(url: str, records: list[Record]) -> list[Record]:
    """Returns what the scoring server at `url` says of records.

    Raises:
        TransientError: It does not answer, or not in time.
        StageError: It answers with an error.
    """
    return _invoke(url, {"dataframe_records": records})


def answer_at(url: str, messages: list[dict[str, str]], max_tokens: int) -> str:
    """Returns the greedy answer of the scoring server at `url` to a conversation; raises as `label_at` does."""
    records = [{"messages": json.dumps(messages, ensure_ascii=False)}]
    return str(_invoke(url, {"dataframe_records": records, "params": {"max_new_tokens": max_tokens}})[0])


def _invoke(url: str, body: dict[str, Any]) -> list[Any]:
    import httpx

    try:
        response = httpx.post(f"{url}/invocations", json=body, timeout=ANSWER_LIMIT_S, trust_env=False)
        response.raise_for_status()
        answers: list[Any] = response.json()["predictions"]
    except httpx.HTTPStatusError as error:
        said = text_safe(error.response.text, 500)
        if error.response.status_code == httpx.codes.GATEWAY_TIMEOUT:
            raise TransientError(f"the scoring server at {url} did not answer in time: {said}") from error
        raise StageError(f"the scoring server at {url} refused: {said}") from error
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise TransientError(f"the scoring server at {url} gave no answer: {type(error).__name__}: {error}") from error
    return answers


def agrees(said: Any, expected: Any) -> bool:
    """Whether two answers are one: names equal, numbers within `TOLERANCE`."""
    if isinstance(expected, float) and isinstance(said, int | float):
        return math.isclose(said, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(expected, dict) and isinstance(said, dict):
        return said.keys() == expected.keys() and all(agrees(said[name], expected[name]) for name in expected)
    if isinstance(expected, list) and isinstance(said, list):
        return len(said) == len(expected) and all(map(agrees, said, expected))
    return bool(said == expected)
