"""Camera feeds in, masklets and events out: maskstream as a library.

::

    from pipeline import events, load_config, read_records, run, segment, track

Importing this costs next to nothing; torch is imported once a model is built.
"""

from importlib import import_module

# Two functions share their names with packages of ours. Python binds a package's name once, when it
# is first imported: now, so that the functions take the names for good. Modules inside are found as
# ever, by ``from pipeline.segment.prompts import …``.
import_module("pipeline.events")
import_module("pipeline.segment")

from pipeline.library import (  # noqa: E402
    events,
    load_config,
    read_records,
    run,
    segment,
    to_coco,
    to_supervision,
    track,
)

__all__ = [
    "events",
    "load_config",
    "read_records",
    "run",
    "segment",
    "to_coco",
    "to_supervision",
    "track",
]
