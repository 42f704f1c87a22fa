"""The form of deploy/compose.yaml and deploy/Dockerfile; nothing here has a docker engine to run them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from flows.__main__ import main
from tasks.core.site import Site

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
REQUIRED_VARIABLE = re.compile(r"\$\{[A-Z_]+:\?[^}]+\}")
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH_STRING")


def words(service: dict[str, Any]) -> list[str]:
    """Everything a service says as text: command, entry point, environment."""
    environment = service.get("environment") or {}
    return [str(word) for word in (*(service.get("entrypoint") or ()), *(service.get("command") or ()), *environment.values())]


def test_the_services_are_those_the_pipeline_needs() -> None:
    assert set(SERVICES) == {"postgres", "prefect", "worker", "mlflow", "model"}
    for service in SERVICES.values():
        for name, condition in (service.get("depends_on") or {}).items():
            assert name in SERVICES
            assert condition["condition"] in ("service_healthy", "service_started")
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).is_file()


@pytest.mark.parametrize("name", list(SERVICES))
def test_each_service_is_watched(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= set(check)


@pytest.mark.parametrize("name", list(SERVICES))
def test_ports_are_bound_to_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@pytest.mark.parametrize("name", list(SERVICES))
def test_secrets_come_from_required_variables(name: str) -> None:
    for key, value in (SERVICES[name].get("environment") or {}).items():
        if SECRET_NAME.search(key):
            assert REQUIRED_VARIABLE.fullmatch(str(value)), f"{key} is spelt out"
    for word in words(SERVICES[name]):
        for password in re.findall(r"://[^:/@]+:([^@]+)@", word):
            assert REQUIRED_VARIABLE.fullmatch(password), "a password in an address"


def test_prefect_and_mlflow_have_a_database_each() -> None:
    made = set(re.findall(r"CREATE DATABASE (\w+);", (DEPLOY / "databases.sql").read_text()))
    used = {
        match for service in SERVICES.values() for word in words(service) for match in re.findall(r"@postgres:5432/(\w+)", word)
    }
    assert used == made == {"prefect", "mlflow"}


def test_mlflow_takes_requests_under_its_own_name_only() -> None:
    command = SERVICES["mlflow"]["command"]
    assert command[command.index("--allowed-hosts") + 1].split(",") == ["mlflow:5000", "localhost:5000", "127.0.0.1:5000"]


def test_settings_and_commands_exist() -> None:
    fields = {f"TEXTMILL_{field.upper()}" for field in Site.model_fields}
    for service in SERVICES.values():
        assert {key for key in service.get("environment") or {} if key.startswith("TEXTMILL_")} <= fields
    result = CliRunner().invoke(main, [SERVICES["model"]["command"][0], "--help"])
    assert result.exit_code == 0


def test_the_image_runs_as_nobody_special_and_has_what_is_needed() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert "USER textmill" in lines
    assert not [line for line in lines if SECRET_NAME.search(line)]
    assert any("requirements.lock" in line for line in lines)
    copied = {line.split()[1] for line in lines if line.startswith("COPY") and len(line.split()) == 3}
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= copied
    let_through = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert packages | {"requirements.lock", "pyproject.toml", "prefect.yaml"} <= let_through
