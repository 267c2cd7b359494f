"""Names of concepts that are safe in keys and topics."""

import re
from collections.abc import Iterable


def to_concept_id(phrase: str) -> str:
    """Return a name for a phrase: ``person-in-a-red-jacket``; ``concept`` if it has no letter."""
    return re.sub(r"[\W_]+", "-", phrase.casefold()).strip("-") or "concept"


def unique_concept_ids(phrases: Iterable[str], *, taken: Iterable[str] = ()) -> list[str]:
    """Return a name for each phrase, all different: the second ``deer`` becomes ``deer-2``.

    None is among those that are ``taken``.
    """
    used = set(taken)
    ids: list[str] = []
    for phrase in phrases:
        slug = concept_id = to_concept_id(phrase)
        number = 1
        while concept_id in used:
            number += 1
            concept_id = f"{slug}-{number}"
        used.add(concept_id)
        ids.append(concept_id)
    return ids
