"""No two streams share a name, however long or odd theirs are."""

from hypothesis import given
from hypothesis import strategies as st

from connectors.files.naming import encode_name


@given(st.lists(st.text(alphabet="ab/_.+%~é ", min_size=1, max_size=300), unique=True))
def test_no_two_streams_share_a_name_and_each_fits_a_file_system(stream_ids):
    names = [encode_name(stream_id) for stream_id in stream_ids]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) <= 120 and "/" not in name for name in names)
    assert not {".", ".."} & set(names)


def test_long_names_that_differ_at_their_end_differ():
    assert encode_name("a" * 300 + "x") != encode_name("a" * 300 + "y")
