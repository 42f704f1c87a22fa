"""Given bases: a model that others made, as a checkpoint of this pipeline."""

from tasks.bases.specs import BaseSpec, FolderBase, GgufBase, HubBase, NoBase, PackageBase
from tasks.bases.stage import adopt_base

__all__ = ["BaseSpec", "FolderBase", "GgufBase", "HubBase", "NoBase", "PackageBase", "adopt_base"]
