"""The `textmill` command.

In: arguments. Out: what a person wants to see, and an exit code: 0 done, 1 defect, 2 recipe or usage, 3 the quality gate or
the evaluation said no, 4 an artifact is not what is needed, 5 a stage failed, 6 a passing trouble outlived its retries,
130 interrupted, 143 terminated. Invariant: nothing heavy is imported before a command needs it.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click


def _prepare() -> None:
    """Points Prefect, MLflow and the hub libraries at the state folder; before any of them is imported."""
    from tasks.core.site import LOOPBACK, current_site, service_environment

    for name, value in service_environment(current_site()).items():
        os.environ.setdefault(name, value)
    _keep_from_proxies(LOOPBACK, "localhost", "::1", current_site().host)


def _keep_from_proxies(*hosts: str) -> None:
    """Adds hosts to those that this process and its children ask without a proxy: theirs cannot reach our servers."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name.strip() for name in known.split(",") if name.strip()]
    if "*" not in names:
        names += [host for host in dict.fromkeys(hosts) if host not in names]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)


def _note_defect(error: Exception) -> str:
    """Writes an unexpected error's traceback to a file, where that can be, and returns what to say of it."""
    import traceback

    from tasks.core.errors import PipelineError
    from tasks.core.site import current_site

    trace = "".join(traceback.format_exception(error))
    told = f"unexpected {type(error).__name__}: {error}\nThis is a defect of Textmill; please report it with "
    try:
        path = current_site().root / "logs" / "defect.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(trace, encoding="utf-8", errors="replace")
    except (OSError, PipelineError):  # a full disk, or settings that are wrong too
        return f"{told}this:\n{trace}"
    return f"{told}{path}"


class _Group(click.Group):
    """Turns the pipeline's errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        from tasks.core.errors import PipelineError
        from tasks.core.signals import Terminated

        try:
            return super().invoke(ctx)
        except PipelineError as error:
            click.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
            ctx.exit(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            click.secho(f"{_note_defect(error)}", fg="red", err=True)
            ctx.exit(1)
        except KeyboardInterrupt as error:
            terminated = isinstance(error, Terminated)
            how = "terminated" if terminated else "interrupted"
            click.secho(f"{how}; finished stages are kept, the same command goes on from here", fg="yellow", err=True)
            ctx.exit(143 if terminated else 130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="textmill")
def main() -> None:
    """Textmill: raw text to a registered, served language model."""


_overrides = click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Change a field of the recipe.")


@main.command()
@click.argument("preset")
@_overrides
@click.option("--until", metavar="STAGE", help="End after this stage.")
@click.option("--part", default="pipeline", show_default=True, help="Part of the chain: corpus, model, release, pipeline.")
@click.option("--keep-serving", is_flag=True, help="Leave the model server running at the end.")
@click.option("--no-wait", is_flag=True, help="Fail where another run builds the same artifact.")
def run(preset: str, overrides: tuple[str, ...], until: str | None, part: str, keep_serving: bool, no_wait: bool) -> None:
    """Run PRESET (a shipped name or a TOML file); finished stages are reused."""
    if no_wait:
        os.environ["TEXTMILL_LOCK_WAIT"] = "false"
    _prepare()
    from flows.launch import launch

    launch(preset, overrides, until, part, keep_serving)


@main.command()
@click.argument("preset")
@_overrides
@click.option("--grid", multiple=True, required=True, metavar="A.B=V,V", help="A field of the recipe and its values, seeds too.")
@click.option("--by", metavar="FIGURE", help="Figure on validation items that chooses; by default that of the gate, or the loss.")
def compare(preset: str, overrides: tuple[str, ...], grid: tuple[str, ...], by: str | None) -> None:
    """Tune PRESET once for every combination of values and say which is best; finished runs are reused."""
    _prepare()
    from flows.compare_run import launch_comparison

    launch_comparison(preset, overrides, grid, by)


@main.command()
@click.argument("preset")
@_overrides
@click.option("--until", metavar="STAGE", help="Plan up to this stage.")
def plan(preset: str, overrides: tuple[str, ...], until: str | None) -> None:
    """Say which stages PRESET would reuse or build, and why."""
    _prepare()
    from flows.plan import show_plan

    show_plan(preset, overrides, until)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder or file with your text.")
@click.option("--instructions", type=click.Path(path_type=Path), help="Instruction data (alpaca or chat form).")
def init(path: Path, data: Path, instructions: Path | None) -> None:
    """Write a commented recipe for your own text to PATH."""
    from flows.init import write_recipe

    write_recipe(path, data, instructions)
    click.echo(f"wrote {path}; see what it would do with: textmill plan {path}")


@main.command("ls")
@click.argument("kind", required=False)
def list_artifacts(kind: str | None) -> None:
    """List the artifacts in the store, of KIND if given."""
    from flows.inspect import show_artifacts

    show_artifacts(kind)


@main.command()
@click.argument("artifact")
def show(artifact: str) -> None:
    """Show an ARTIFACT (kind/fingerprint, or a unique start of either): facts, provenance, lineage."""
    from flows.inspect import show_artifact

    show_artifact(artifact)


@main.command("inspect")
@click.argument("name", metavar="PRESET_OR_ARTIFACT")
@_overrides
@click.option("--reason", help="Only this reason (gopher_quality:gopher_short_doc) or this filter (gopher_quality).")
@click.option("--n", "count", default=10, show_default=True, type=click.IntRange(1), help="Documents shown of each reason.")
@click.option("--seed", default=0, show_default=True, help="Another number draws another sample.")
@click.option("--show-mask", is_flag=True, help="Show instead which tokens of the first N conversations of PRESET are learned.")
def inspect_texts(name: str, overrides: tuple[str, ...], reason: str | None, count: int, seed: int, show_mask: bool) -> None:
    """Show a sample of what each rule of cleaning dropped and masked: PRESET, or a filtered corpus of the store."""
    _prepare()
    if show_mask:
        from flows.mask import show_mask as show

        show(name, overrides, count)
        return
    from flows.dropped import show_dropped

    show_dropped(name, overrides, reason, count, seed)


@main.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--keep-last", default=1, show_default=True, type=click.IntRange(0), help="Artifacts kept of each label and stage.")
@click.option("--unfinished", is_flag=True, help="Remove too what a run began, did not end, and would go on from.")
def gc(dry_run: bool, keep_last: int, unfinished: bool) -> None:
    """Remove what no alias points at, nothing kept was made from, and is not the newest of its recipe and stage."""
    _prepare()
    from flows.gc import collect

    collect(dry_run, keep_last, unfinished)


@main.command()
@click.argument("model")
@click.option("--prompt", help="Ask once and leave.")
@click.option("--max-tokens", default=128, show_default=True, type=click.IntRange(1), help="Longest answer.")
def chat(model: str, prompt: str | None, max_tokens: int) -> None:
    """Talk to MODEL: NAME, NAME@alias, NAME:version, or a model folder."""
    _prepare()
    from flows.talk import chat_with

    chat_with(model, prompt, max_tokens)


@main.command()
@click.argument("name")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; by default any free one.")
def serve(name: str, port: int | None) -> None:
    """Serve NAME (NAME@alias, NAME:version) in the foreground, OpenAI-compatible, until Ctrl-C."""
    if port is not None:
        os.environ["TEXTMILL_SERVE_PORT"] = str(port)
    _prepare()
    from flows.talk import serve_model

    serve_model(name)


@main.command()
@click.argument("name")
@click.option("--to", type=click.IntRange(1), help="Version to go back to; by default the one live before.")
@click.option("--reason", default="", help="Written into the audit line.")
def rollback(name: str, to: int | None, reason: str) -> None:
    """Take the live version of NAME back.

    With --to the version that is live, take back a champion that never went live.
    """
    _prepare()
    from flows.talk import roll_back

    roll_back(name, to, reason)


@main.command()
@click.option("--prefect-port", default=4200, show_default=True, type=click.IntRange(1, 65535))
@click.option("--mlflow-port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def ui(prefect_port: int, mlflow_port: int) -> None:
    """Start the Prefect and MLflow servers and a worker on loopback, until Ctrl-C."""
    _prepare()
    from flows.ui import serve_ui

    serve_ui(prefect_port, mlflow_port)


@main.command()
def join() -> None:
    """Help node 0 train, as node TEXTMILL_NODE_RANK, until Ctrl-C."""
    import logging

    from tasks.core.join import join as help_train
    from tasks.core.run import stage_log
    from tasks.core.site import current_site

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    help_train(current_site(), stage_log("join"))


@main.command()
def doctor() -> None:
    """Check versions, disk, ports, devices and settings; close runs whose process is gone."""
    _prepare()
    from flows.doctor import examine

    sys.exit(0 if examine() else 1)


if __name__ == "__main__":
    main()
