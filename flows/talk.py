"""`textmill chat`, `serve` and `rollback`: the commands about a released model.

In: a model's name. Out: answers, a server, an earlier version. Invariant: thin; the work is in `deploy`.
"""

import click
from rich.console import Console

from tasks.core.errors import RecipeError, StageError
from tasks.core.site import current_site
from tasks.core.tracking import aliases


def chat_with(model: str, prompt: str | None, max_tokens: int) -> None:
    """Asks once, or talks until an empty line or Ctrl-D, whatever the model makes of a line.

    Raises:
        StageError: The server refuses the one question.
    """
    from deploy.rollout import open_chat

    with open_chat(current_site(), model, notify=click.echo) as ask:
        if prompt is not None:
            click.echo(ask(prompt, max_tokens))
            return
        click.echo("an empty line or Ctrl-D ends the talk")
        while line := _read_line():
            try:
                click.echo(ask(line, max_tokens))
            except (RecipeError, StageError) as error:
                click.echo(error)


def _read_line() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def serve_model(name: str) -> None:
    """Serves a model in the foreground."""
    from deploy.rollout import serve_foreground

    serve_foreground(current_site(), name, notify=click.echo)


def roll_back(name: str, to: int | None, reason: str) -> None:
    """Takes the live version back and says what is live now."""
    from deploy.rollout import rollback

    site = current_site()
    was_live = aliases(site, name).get("live")
    done = rollback(site, name, to, reason)
    said = "stays live, and is champion again" if done.version == was_live else "is live again"
    Console().print(f"{name}: version {done.version} {said}", highlight=False)
