"""Textmill: the stages of the pipeline, and what they are made of."""
