"""Where and how a run executes: folders, devices, workers, ports, addresses, secrets.

In: `textmill.toml` in the working folder, or the file that TEXTMILL_CONFIG names, and `TEXTMILL_*` variables, which win. Out:
one frozen `Site`.
Invariant: nothing in here enters a fingerprint, and nothing in here is sent through Prefect.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from tasks.core.errors import RecipeError
from tasks.core.toml import read_toml

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Sharding = Literal["ddp", "fsdp2"]
DataEngine = Literal["local", "ray", "slurm"]
LOOPBACK = "127.0.0.1"
CONFIG = "TEXTMILL_CONFIG"
_SECRET = ("token", "password", "uri", "url")  # parts of the names of fields whose values may let somebody in


class _TomlFile(TomlConfigSettingsSource):
    """The settings file; a slip in it is the user's error, and names it."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return read_toml(file_path)


class Site(BaseSettings):
    """Execution settings of one machine; every field can be set by `TEXTMILL_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="TEXTMILL_", frozen=True, extra="forbid", validate_default=True)

    state_dir: Annotated[Path, Field(description="Folder that holds the store and the state of both servers.")] = Path(
        ".textmill"
    )
    data_dir: Annotated[Path | None, Field(description="Folder that `data:` paths of a recipe start from.")] = None
    device: Annotated[Device, Field(description="Device to train and evaluate on.")] = "auto"
    num_processes: Annotated[int, Field(ge=1, description="Training processes on this node, one a device.")] = 1
    sharding: Annotated[
        Sharding, Field(description="Many training processes: weights on each (ddp), or a part of them on each (fsdp2).")
    ] = "ddp"
    num_nodes: Annotated[int, Field(ge=1, description="Nodes that train together, each with num_processes.")] = 1
    node_rank: Annotated[int, Field(ge=0, description="Number of this node; 0 runs the chain, the others help it train.")] = 0
    rendezvous: Annotated[
        str | None, Field(pattern=r"^[^\s:]+:\d+$", description="host:port of node 0 where the nodes meet; none: one node.")
    ] = None
    num_threads: Annotated[int | None, Field(ge=1, description="Threads of a training process; none: all cores.")] = None
    data_workers: Annotated[int, Field(ge=1, description="Processes that clean and encode text.")] = os.cpu_count() or 1
    data_engine: Annotated[
        DataEngine, Field(description="Who runs them: processes of this machine, a Ray cluster, or Slurm.")
    ] = "local"
    ray_address: Annotated[str | None, Field(description="Ray cluster; none: one of the run's own on this machine.")] = None
    slurm_partition: Annotated[str | None, Field(description="Slurm partition for the data stages.")] = None
    data_task_s: Annotated[
        int,
        Field(ge=1, description="Time limit in seconds of the share of one worker, on Ray and Slurm; whole minutes on Slurm."),
    ] = 86_400
    micro_batch_rows: Annotated[
        int | None, Field(ge=1, description="Rows a pass; none: about 2,048 tokens on CPUs, 16,384 on GPUs.")
    ] = None
    compile: Annotated[
        bool, Field(description="Compile the model's layers for training (torch.compile); compiled code is kept in state_dir.")
    ] = False
    recompute_activations: Annotated[
        bool, Field(description="Compute activations again in the backward pass instead of keeping them: less memory, slower.")
    ] = False
    loss_chunk_tokens: Annotated[
        int | None, Field(ge=1, description="Targets whose logits are held at once in training; none: those of all rows.")
    ] = None
    mlflow_uri: Annotated[str | None, Field(description="MLflow tracking address; none: SQLite in state_dir.")] = None
    mlflow_token: Annotated[SecretStr | None, Field(description="Bearer token of the MLflow server.")] = None
    prefect_api_url: Annotated[
        str | None, Field(description="Prefect server; none: the running `textmill ui`, else a temporary one.")
    ] = None
    engine: Annotated[Literal["transformers", "vllm"], Field(description="Program that serves a model.")] = "transformers"
    host: Annotated[
        str,
        Field(
            description="Address that `ui` and `serve` bind to; a run's own servers do not. Browsers ask the pages of `ui` by "
            "it: no 0.0.0.0 there."
        ),
    ] = LOOPBACK
    serve_port: Annotated[int, Field(ge=0, le=65535, description="Port of the model server; 0: any free one.")] = 0
    retry_delay_s: Annotated[float | None, Field(ge=0, description="Seconds between attempts; none: by stage.")] = None
    lock_wait: Annotated[bool, Field(description="Wait for another run that builds the same artifact.")] = True
    tracker_wait_s: Annotated[float, Field(ge=0, description="Seconds a run's end waits for MLflow.")] = 30.0

    @field_validator("mlflow_uri")
    @classmethod
    def _empty_is_none(cls, uri: str | None) -> str | None:
        return uri or None

    @field_validator("rendezvous")
    @classmethod
    def _nodes_fit_together(cls, rendezvous: str | None, info: ValidationInfo) -> str | None:
        num_nodes, node_rank = info.data.get("num_nodes", 1), info.data.get("node_rank", 0)
        if (num_nodes > 1) != (rendezvous is not None):
            raise ValueError(f"num_nodes is {num_nodes}: set rendezvous for many nodes, and for many nodes only")
        if node_rank >= num_nodes:
            raise ValueError(f"node_rank {node_rank} must be below num_nodes {num_nodes}")
        return rendezvous

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Orders the sources: arguments, environment, then the settings file."""
        return init_settings, env_settings, _TomlFile(settings_cls, settings_file())

    @property
    def root(self) -> Path:
        """Absolute path of the state folder."""
        return self.state_dir.absolute()

    @property
    def store_dir(self) -> Path:
        """Folder of the artifacts."""
        return self.root / "store"

    @property
    def tracking_uri(self) -> str:
        """Address of MLflow: the one set, else SQLite in the state folder."""
        return self.mlflow_uri or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def resolved_device(self) -> Literal["cpu", "cuda"]:
        """The device `auto` stands for, found without importing torch."""
        if self.device != "auto":
            return self.device
        return "cuda" if Path("/proc/driver/nvidia/gpus").exists() else "cpu"

    @property
    def num_shards(self) -> int:
        """Devices that the weights of a training are cut over."""
        return self.num_nodes * self.num_processes if self.sharding == "fsdp2" else 1

    def resolve_precision(self, precision: Precision) -> Literal["fp32", "bf16", "fp16"]:
        """Returns what `auto` means on this device: bf16 where products in bf16 are native, else fp32.

        Raises:
            RecipeError: fp16 without a GPU.
        """
        if precision == "fp16" and self.resolved_device == "cpu":
            raise RecipeError("precision fp16 needs a GPU, but the device is cpu; set precision to auto, bf16 or fp32")
        if precision != "auto":
            return precision
        return "bf16" if self.resolved_device == "cuda" or _cpu_has_bf16() else "fp32"


@lru_cache
def _cpu_has_bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(flag in cpuinfo.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def settings_file() -> Path:
    """Returns the file that TEXTMILL_CONFIG names, else textmill.toml in the working folder, which need not be there.

    Raises:
        RecipeError: TEXTMILL_CONFIG names none.
    """
    given = os.environ.get(CONFIG)
    if given and given != os.devnull and not Path(given).is_file():
        raise RecipeError(f"{CONFIG} names {given}, and there is no such file")
    return Path(given or "textmill.toml")


@lru_cache
def current_site() -> Site:
    """Reads the settings once for this process.

    Raises:
        RecipeError: A setting is unknown or has a wrong value.
    """
    try:
        return Site()
    except ValidationError as error:
        lines = map(_explain, error.errors())
        raise RecipeError(f"{settings_file()} or a TEXTMILL_* variable is wrong:\n" + "\n".join(lines)) from None


def _explain(item: Any) -> str:
    where = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"  {where}: no such setting"
    return f"  {where}: {item['msg']}" + ("" if any(part in where for part in _SECRET) else f" (got {item['input']!r})")


def settings_environment(site: Site) -> dict[str, str]:
    """Returns the variables that give a process in another folder the same settings, beside those that are set here."""
    file = settings_file()
    folders = {f"TEXTMILL_{name.upper()}": getattr(site, name) for name in ("state_dir", "data_dir")}
    return {CONFIG: str(file.absolute()) if file.is_file() else os.devnull} | {
        name: str(folder.absolute()) for name, folder in folders.items() if folder is not None
    }


def service_environment(site: Site) -> dict[str, str]:
    """Returns the variables that keep Prefect, MLflow and the hub libraries in `state_dir` and off the network."""
    root = site.root
    return {
        "PREFECT_HOME": str(root / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(root / "prefect" / "ui"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "textmill",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal has a display of its own
        "DO_NOT_TRACK": "1",
        "MLFLOW_TRACKING_URI": site.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
        "MLFLOW_MODEL_CATALOG_URI": "",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "GX_ANALYTICS_ENABLED": "false",
        "TOKENIZERS_PARALLELISM": "false",
    } | ({"MLFLOW_TRACKING_TOKEN": site.mlflow_token.get_secret_value()} if site.mlflow_token else {})
