"""Names of concepts that are safe in keys and topics."""

import pytest

from models.common.concept_ids import to_concept_id, unique_concept_ids


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("deer", "deer"),
        ("Person in a red jacket", "person-in-a-red-jacket"),
        (" a/b_c ", "a-b-c"),
        ("Réh", "réh"),
        ("?!", "concept"),
    ],
)
def test_concept_ids_are_safe_names(phrase, expected):
    assert to_concept_id(phrase) == expected


def test_concept_ids_of_one_stream_are_all_different():
    assert unique_concept_ids(["a-b", "a b", "c", "A/B"]) == ["a-b", "a-b-2", "c", "a-b-3"]
    assert unique_concept_ids(["a b 2", "a b", "A_B"]) == ["a-b-2", "a-b", "a-b-3"]


def test_concept_ids_keep_clear_of_those_that_are_taken():
    assert unique_concept_ids(["a b", "a-b"], taken=["a-b", "a-b-3"]) == ["a-b-2", "a-b-4"]
