"""Repeatable unique identifiers."""

from uuid import NAMESPACE_URL, uuid5

_NAMESPACE = uuid5(NAMESPACE_URL, "urn:maskstream")


def make_uid(*parts: str | int) -> str:
    """Return a UUID that is the same for the same parts, wherever and whenever it is made."""
    # The length in front keeps ("a", "bc") and ("ab", "c") apart.
    text = "/".join(f"{len(str(part))}:{part}" for part in parts)
    return str(uuid5(_NAMESPACE, text))
