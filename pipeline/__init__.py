"""Camera feeds in, masklets and events out: maskstream as a library.

::

    from pipeline import load_config, read_records, run, segment

Importing this costs next to nothing; torch is imported once a model is built.
"""

from importlib import import_module

# A function and a package of ours share a name. Python binds a package's name once, when it is
# first imported: now, so that the function takes the name for good. Modules inside are found as
# ever, by ``from pipeline.segment.prompts import …``.
import_module("pipeline.segment")

from pipeline.library import load_config, read_records, run, segment  # noqa: E402

__all__ = ["load_config", "read_records", "run", "segment"]
