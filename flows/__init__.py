"""Recipes, Prefect flows and the command line: the only layer that knows the whole chain."""
