"""Deployment: an engine that serves a model folder, and the roll-out that decides which one is live."""
