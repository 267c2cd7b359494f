"""Which concepts a stream is searched for: checked, added, renamed and removed."""

from collections.abc import Sequence
from dataclasses import replace

from models.common.checks import check_sequence, check_text
from models.common.concept_ids import to_concept_id
from models.protocols import Concept, ConceptQuery, to_concepts
from models.sam3.phrases import PhraseEncoder, plain_phrase
from models.sam3.prompts import phrase_of, read_query
from models.sam3.tracking.stream import SearchedConcept, Stream


def begin_concepts(
    stream_id: str, given: object, phrases: PhraseEncoder, *, takes_points: bool
) -> tuple[SearchedConcept, ...]:
    """Return the concepts to search a stream for; their phrases are encoded in one pass.

    Args:
        stream_id: The stream, for messages.
        given: A sequence of phrases, concepts and queries.
        phrases: Encodes phrases.
        takes_points: Whether the model has weights for points as exemplars.

    Raises:
        ValueError: If one says nothing, or two have a phrase, a name or an id in common.
    """
    items = check_sequence("concepts", given, of="phrases, concepts and queries")
    queries = [
        read_query(
            ConceptQuery(phrase=one.phrase) if isinstance(one, Concept) else one,
            takes_points=takes_points,
        )
        for one in items
    ]
    concepts = to_concepts(
        [
            one if isinstance(one, Concept) else phrase_of(query)
            for one, query in zip(items, queries, strict=True)
        ]
    )
    for number, concept in enumerate(concepts):
        _check(stream_id, concept, concepts[:number])
    return tuple(
        SearchedConcept(
            concept=concept,
            text=text,
            has_phrase=query.phrase is not None,
            pending=query.exemplars,
        )
        for concept, text, query in zip(
            concepts, phrases.encode([one.phrase for one in concepts]), queries, strict=True
        )
    )


def add_concept(stream: Stream, concept: Concept, phrases: PhraseEncoder) -> None:
    """Look for a concept more.

    Raises:
        ValueError: If it says nothing, or one of the stream's has its phrase, name or id.
    """
    _check(stream.stream_id, concept, [one.concept for one in stream.concepts])
    (text,) = phrases.encode([concept.phrase])
    searched = SearchedConcept(concept=concept, text=text, has_phrase=True)
    stream.concepts = (*stream.concepts, searched)


def rename_concept(stream: Stream, concept_id: str, name: str) -> None:
    """Call a concept otherwise.

    Raises:
        ValueError: If there is none of that id, or another is called so.
    """
    searched = stream.searched(concept_id)
    renamed = replace(searched.concept, name=name)
    others = [one.concept for one in stream.concepts if one is not searched]
    _check(stream.stream_id, renamed, others)
    searched.concept = renamed


def remove_concept(stream: Stream, concept_id: str) -> None:
    """Look for a concept no more, and forget its masklets.

    Raises:
        ValueError: If there is none of that id.
    """
    removed = stream.searched(concept_id)
    stream.concepts = tuple(one for one in stream.concepts if one is not removed)
    stream.masklets = [one for one in stream.masklets if one.concept_id != concept_id]


def _check(stream_id: str, concept: Concept, others: Sequence[Concept]) -> None:
    """Raise ``ValueError`` if a stream that has others cannot have a concept beside them."""
    for field in ("concept_id", "phrase", "name"):
        value = check_text(field, getattr(concept, field))
        if not value.strip():
            raise ValueError(f"{field} is {value!r}; accepted: text that is not blank")
        taken = [str(getattr(other, field)) for other in others]
        if plain_phrase(value) in map(plain_phrase, taken):
            raise ValueError(
                f"stream {stream_id!r} has a concept of {field} {value!r} already; "
                f"accepted: another than {taken!r}"
            )
    if to_concept_id(concept.concept_id) != concept.concept_id:
        raise ValueError(
            f"concept_id is {concept.concept_id!r}; accepted: small letters, digits and hyphens, "
            f"such as {to_concept_id(concept.concept_id)!r}"
        )
