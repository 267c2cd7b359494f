"""Engines that run in the tests' own process are watched as those of their unit tests are."""

from tests.pipeline.conftest import single_writer

__all__ = ["single_writer"]
