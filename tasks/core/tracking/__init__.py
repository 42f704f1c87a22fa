"""MLflow as Textmill sees it: a spool that never blocks, a process that delivers it, and the model registry.

In: what a run measured and made. Out: MLflow runs whose status is true, and answers about registered versions. Invariants:
importing this imports no MLflow; a tracker that is down never stops or blocks a run, the spool is delivered later;
registry calls raise `TransientError` where MLflow does not answer, `RecipeError` where it lets nobody in.
"""

from tasks.core.tracking.client import shown
from tasks.core.tracking.deliver import deliver_pending, reap
from tasks.core.tracking.model import TRIAL, base_folder, corpus_profile, download, registered_answers, served_folder
from tasks.core.tracking.registry import (
    BASE_DIGEST,
    BASES,
    CORPUS_DIGEST,
    ROLLED_BACK,
    RegisteredVersion,
    aliased_digests,
    aliases,
    champion,
    delete_alias,
    delete_tag,
    find_alias,
    find_version,
    last_with_corpus,
    moving_aliases,
    set_alias,
    set_tags,
    version_by_digest,
    versions,
)
from tasks.core.tracking.spool import RunTracker

__all__ = [
    "BASES",
    "BASE_DIGEST",
    "CORPUS_DIGEST",
    "ROLLED_BACK",
    "TRIAL",
    "RegisteredVersion",
    "RunTracker",
    "aliased_digests",
    "aliases",
    "base_folder",
    "champion",
    "corpus_profile",
    "delete_alias",
    "delete_tag",
    "deliver_pending",
    "download",
    "find_alias",
    "find_version",
    "last_with_corpus",
    "moving_aliases",
    "reap",
    "registered_answers",
    "served_folder",
    "set_alias",
    "set_tags",
    "shown",
    "version_by_digest",
    "versions",
]
