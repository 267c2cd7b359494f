"""Sections of the configuration that the pipeline's own rooms do not declare themselves."""
