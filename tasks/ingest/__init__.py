"""Ingest: raw text from files, saved data sets and the hub."""

from tasks.ingest.sources import FilesSource, HubSource, IngestSpec, SavedSource, SourceSpec
from tasks.ingest.stage import ingest

__all__ = ["FilesSource", "HubSource", "IngestSpec", "SavedSource", "SourceSpec", "ingest"]
