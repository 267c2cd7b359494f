"""Records come back from entries byte for byte, and good entries are found beside damaged ones."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.record import Record, Topic
from pipeline.engine.log.entries import (
    SEGMENT_HEAD_BYTES,
    VERSION,
    UnloggableError,
    decode_record,
    decode_segment_head,
    encode_entry,
    encode_gap,
    encode_segment_head,
    find_last_written,
    scan,
    size_of,
)
from tests.pipeline.engine.log.logs import make_record

TEXTS = st.text("aZ9 /é€🦌\0\n", max_size=20)
RECORDS = st.builds(
    Record,
    topic=st.sampled_from(Topic),
    key=TEXTS | st.just("cam\udcff"),
    value=st.binary(max_size=200),
    headers=st.lists(st.tuples(TEXTS, st.binary(max_size=20)), max_size=9).map(tuple),
    timestamp_ms=st.integers(-(1 << 63), (1 << 63) - 1),
)
ENTRIES = [encode_entry(number, 5000 + number, make_record(number)) for number in range(1, 6)]
DATA = b"".join(ENTRIES)
STARTS = [sum(map(len, ENTRIES[:place])) for place in range(6)]


def seqs_of(data, start=0, last_seq=0, *, is_whole=True):
    return [entry.seq for entry in scan(data, start, last_seq, is_whole=is_whole)]


@given(record=RECORDS, seq=st.integers(1, 1 << 63))
def test_record_comes_back_byte_for_byte(record, seq):
    data = encode_entry(seq, 7, record)
    (entry,) = scan(data, 0, 0, is_whole=True)
    assert (entry.seq, entry.appended_ms, entry.start, entry.end) == (seq, 7, 0, len(data))
    assert decode_record(data, entry) == record
    assert len(data) == size_of(record)


def test_entries_come_in_order_from_any_of_them_on():
    assert seqs_of(DATA) == [1, 2, 3, 4, 5]
    assert seqs_of(DATA, STARTS[3], 3) == [4, 5]


@given(at=st.integers(0, len(DATA) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_harms_one_entry(at, bit):
    data = bytearray(DATA)
    data[at] ^= 1 << bit
    hit = next(seq for seq in range(1, 6) if at < STARTS[seq])
    assert seqs_of(bytes(data)) == [seq for seq in range(1, 6) if seq != hit]


@given(cut=st.integers(0, len(DATA)))
def test_a_torn_end_leaves_whole_entries(cut):
    whole = [seq for seq in range(1, 6) if STARTS[seq] <= cut]
    assert seqs_of(DATA[:cut]) == seqs_of(DATA[:cut], is_whole=False) == whole
    assert find_last_written(DATA[:cut], STARTS[len(whole)], len(whole)) == len(whole)


def test_missing_bytes_are_looked_over():
    assert seqs_of(DATA[: STARTS[1]] + DATA[STARTS[1] + 9 :]) == [1, 3, 4, 5]
    assert seqs_of(DATA[: STARTS[1] - 9] + DATA[STARTS[2] + 9 :]) == [4, 5]
    assert seqs_of(b"junk" + DATA) == [1, 2, 3, 4, 5]


def test_scan_of_a_part_stops_at_what_is_not_good():
    data = bytearray(DATA)
    data[STARTS[3] - 1] ^= 1
    assert seqs_of(bytes(data), is_whole=False) == [1, 2]


def test_entries_in_a_payload_are_no_entries():
    inner = encode_entry(4000, 0, make_record(1))
    outer = Record(topic=Topic.DLQ, key="cam", value=ENTRIES[0] + inner, timestamp_ms=0)
    data = bytearray(ENTRIES[0] + encode_entry(2, 0, outer) + ENTRIES[2])
    assert seqs_of(bytes(data)) == [1, 2, 3]
    data[STARTS[1]] ^= 1  # its magic: found again by scanning
    assert seqs_of(bytes(data)) == [1, 3]


@pytest.mark.parametrize("seq", [9, 40, 5000])
def test_number_that_had_no_room_before_it_is_out_of_place(seq):
    inner = Record(
        topic=Topic.DLQ, key="cam", value=encode_entry(seq, 0, make_record(1)), timestamp_ms=0
    )
    data = bytearray(ENTRIES[0] + encode_entry(2, 0, inner) + encode_gap(3, 0))
    data[STARTS[1]] ^= 1
    # Between entry 1 and the end there is room for fewer than 7 heads.
    assert (len(data) - STARTS[1]) // 32 == 6
    assert seqs_of(bytes(data)) == [1, 3]


def test_good_entry_behind_many_damaged_ones_is_found():
    gaps = b"".join(encode_gap(seq, 0) for seq in range(2, 100))
    data = bytearray(ENTRIES[0] + gaps + encode_gap(100, 0))
    for at in range(STARTS[1], STARTS[1] + len(gaps), len(encode_gap(2, 0))):
        data[at] ^= 1
    assert seqs_of(bytes(data)) == [1, 100]


@pytest.mark.parametrize(
    ("place", "last_written"),
    [(STARTS[4], 5), (STARTS[4] + 5, 5), (len(DATA) - 1, 5), (STARTS[3] + 40, 5)],
)
def test_what_was_written_to_its_end_is_known_though_it_is_damaged(place, last_written):
    data = bytearray(DATA)
    data[place] ^= 1
    data[-1] ^= 1
    good = seqs_of(bytes(data))[-1]
    assert find_last_written(bytes(data), STARTS[good], good) == last_written


def test_what_was_written_is_found_from_the_first_byte_on():
    assert find_last_written(DATA, 0, 0) == 5


def test_zeros_of_a_power_cut_were_never_written():
    assert find_last_written(DATA + bytes(500), len(DATA), 5) == 5


def test_record_of_an_unknown_topic_is_none():
    data = encode_entry(1, 0, make_record(1)).replace(
        b"maskstream.events.v1", b"maskstream.other.v1x"
    )
    entry = next(scan(encode_entry(1, 0, make_record(1)), 0, 0, is_whole=True))
    assert decode_record(data, entry) is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"headers": (("name", b""),) * 70_000}, "70000 headers .accepted: 65535"),
        ({"headers": (("name", None),)}, "header 'name' is a NoneType .accepted: bytes"),
        ({"headers": (("name",),)}, "not enough values"),
        ({"headers": ((None, b""),)}, "encode"),
        ({"value": bytearray(b"1")}, "value is a bytearray .accepted: bytes"),
        ({"value": "text"}, "value is a str .accepted: bytes"),
        ({"key": None}, "encode"),
        ({"timestamp_ms": 1 << 63}, "timestamp_ms is 9223372036854775808 .accepted: 64 bits"),
        ({"timestamp_ms": -(1 << 63) - 1}, "timestamp_ms is -9223372036854775809 "),
        ({"timestamp_ms": 0.5}, "required argument is not an integer"),
        ({"topic": "other"}, "'other' is not a valid Topic"),
    ],
)
def test_record_that_cannot_be_an_entry_is_named_with_its_fault(fault, reason):
    record = replace(make_record(7), **fault)
    with pytest.raises(UnloggableError, match=f"a record of .* cannot be logged: .*{reason}") as no:
        size_of(record)
    assert no.value.record is record


class LongBytes(bytes):
    """Bytes that say they are as many as a length of 32 bits can."""

    def __len__(self):
        return (1 << 32) - 1


def test_payload_whose_length_has_no_room_in_a_head_is_refused():
    record = replace(make_record(7), value=LongBytes())
    with pytest.raises(UnloggableError, match=r"bytes \(accepted: 4294967295 bytes\)"):
        size_of(record)


def test_gap_in_place_of_a_record_is_an_entry_without_one():
    data = ENTRIES[0] + encode_gap(2, -7) + ENTRIES[2]
    entries = list(scan(data, 0, 0, is_whole=True))
    assert [entry.appended_ms for entry in entries] == [5001, 0, 5003]
    assert [decode_record(data, entry) is None for entry in entries] == [False, True, False]


def test_head_of_a_segment_says_its_version():
    head = encode_segment_head()
    assert len(head) == SEGMENT_HEAD_BYTES
    assert decode_segment_head(head + b"more") == VERSION
    for place in range(len(head)):
        damaged = bytearray(head)
        damaged[place] ^= 1
        assert decode_segment_head(bytes(damaged)) is None
        assert decode_segment_head(head[:place]) is None
