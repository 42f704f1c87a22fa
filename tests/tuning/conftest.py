"""A small base model to tune, and conversations."""

from tests.modeling.fixtures import base, conversations, no_children, old, shared_site

__all__ = ["base", "conversations", "no_children", "old", "shared_site"]
