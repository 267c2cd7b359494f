"""Names of streams as parts of the names of files."""

import hashlib
from urllib.parse import quote

# File systems take 255 bytes; what stands around a stream's name and its part needs some of them.
_MAX_NAME = 120
_HASH_DIGITS = 16


def encode_name(stream_id: str) -> str:
    """Return a stream's name as part of a file's: percent-encoded, so that no two are alike.

    One too long for a file system is cut and ends in a hash. A ``+`` is in no name but before it.
    """
    name = quote(stream_id, safe="")
    if not name.strip("."):
        name = name.replace(".", "%2E")  # not the folder itself, or the one above
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(stream_id.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{name[: _MAX_NAME - _HASH_DIGITS - 1]}+{digest}"
