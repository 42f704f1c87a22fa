"""Functions that run in a child, for the tests of children."""

import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from tasks.core.child import MARK, metrics, report
from tasks.core.errors import RecipeError


class Job(BaseModel):
    """Where to write what."""

    path: str
    text: str


def write(job: Job) -> None:
    print("a line from the child")
    logging.getLogger("textmill.childish").warning("something %s to know", "worth")
    Path(job.path).write_text(job.text)
    report(done=1, total=2, unit="steps", loss=0.5)
    metrics(7, loss=0.25)


def refuse(job: Job) -> None:
    raise RecipeError("that is wrong")


def break_down(job: Job) -> None:
    1 / 0  # noqa: B018


def fill_disk(job: Job) -> None:
    """Saves more than may be written, as on a full disk; the library says so in words."""
    import torch
    from safetensors.torch import save_file

    resource.setrlimit(resource.RLIMIT_FSIZE, (int(job.text), int(job.text)))
    save_file({"weights": torch.zeros(100_000)}, job.path)


def abort_beside_a_killed_one(job: Job) -> None:
    """As gloo does where the other process has gone; nobody is killed where the text names no rank."""
    mark = Path(job.path)
    if os.environ["RANK"] == job.text:
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    while job.text.isdigit() and not mark.exists():
        time.sleep(0.001)
    os.abort()


def kill_itself(job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def linger(job: Job) -> None:
    """Waits, with a grandchild in a session of its own."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    Path(job.path).with_name("pid.txt").write_text(str(os.getpid()))
    Path(job.path).write_text(os.environ[MARK])
    time.sleep(60)
