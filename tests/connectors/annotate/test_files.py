"""One file a stream: names, parts, bounds and faults."""

from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.annotate.config import PictureSinkConfig, VideoSinkConfig
from connectors.annotate.files import StreamFaults, StreamFiles, encode_name
from connectors.annotate.picture import BestPictureSink
from connectors.annotate.video import VideoSink
from connectors.errors import NotWritableError
from tests.media import make_frame, number_of


def tiny(number=0, stream_id="cam"):
    return make_frame(number, stream_id=stream_id, width=32, height=24)


def video_sink(path, **options):
    return VideoSink(config=VideoSinkConfig(path=path, **{"fps": 10, "min_width": 0, **options}))


def picture_sink(path, **options):
    return BestPictureSink(config=PictureSinkConfig(path=path, **{"min_width": 0, **options}))


def write_all(sink, frames):
    with sink:
        for frame in frames:
            sink.write(frame, [], [])


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def numbers_in(path):
    with av.open(path) as container:
        return [number_of(one.to_ndarray(format="rgb24")) for one in container.decode(video=0)]


@given(st.lists(st.text(alphabet="ab/_.+%~é ", min_size=1, max_size=300), unique=True))
def test_no_two_streams_share_a_name_and_each_fits_a_file_system(stream_ids):
    names = [encode_name(stream_id) for stream_id in stream_ids]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) <= 120 and "/" not in name for name in names)
    assert not {".", ".."} & set(names)


def test_long_names_that_differ_at_their_end_differ():
    assert encode_name("a" * 300 + "x") != encode_name("a" * 300 + "y")


def test_names_alike_have_files_of_their_own(tmp_path):
    write_all(video_sink(tmp_path / "{stream_id}.mp4"), [tiny(1, "a/b"), tiny(2, "a_b")])
    assert names_in(tmp_path) == ["a%2Fb.mp4", "a_b.mp4"]


def test_a_folder_may_be_named_by_the_stream(tmp_path):
    config = VideoSinkConfig(path=tmp_path / "{stream_id}" / "seen.mp4", min_width=0)
    write_all(VideoSink(config=config), [tiny(1, ".."), tiny(1, "gate")])
    files = config.list_files()
    assert files == [tmp_path / "%2E%2E" / "seen.mp4", tmp_path / "gate" / "seen.mp4"]


@pytest.mark.parametrize("make_sink", [video_sink, picture_sink])
def test_a_file_that_is_there_is_kept_and_a_part_goes_beside_it(tmp_path, make_sink):
    suffix = ".mp4" if make_sink is video_sink else ".png"
    for _ in range(3):
        write_all(make_sink(tmp_path / f"a{suffix}"), [tiny()])
    assert names_in(tmp_path) == [f"a+2{suffix}", f"a+3{suffix}", f"a{suffix}"]


def test_numbered_pictures_are_kept_too(tmp_path):
    for _ in range(2):
        write_all(picture_sink(tmp_path / "a.png", num_pictures=2), [tiny(0), tiny(90)])
    assert names_in(tmp_path) == ["a+2-1.png", "a+2-2.png", "a-1.png", "a-2.png"]


def test_overwriting_begins_old_files_anew_but_none_of_this_run(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    sink = video_sink(path, overwrite=True)
    sink.write(tiny(1), [], [])
    sink.close_stream("cam")
    write_all(sink, [tiny(2)])
    assert (numbers_in(path), numbers_in(tmp_path / "a+2.mp4")) == ([1], [2])


def test_listed_files_are_those_of_all_streams_and_parts(tmp_path):
    config = VideoSinkConfig(path=tmp_path / "a.mp4", min_width=0)
    for _ in range(2):
        write_all(VideoSink(config=config), [tiny(0, "x"), tiny(0, "y")])
    (tmp_path / "abc.mp4").touch()
    assert [path.name for path in config.list_files()] == [
        "a+2.mp4", "a-y+2.mp4", "a-y.mp4", "a.mp4"
    ]  # fmt: skip


def test_the_longest_unused_file_is_closed_and_goes_on_in_a_part(tmp_path):
    frames = [tiny(1, "a"), tiny(2, "b"), tiny(3, "a"), tiny(4, "c"), tiny(5, "a"), tiny(6, "b")]
    write_all(video_sink(tmp_path / "{stream_id}.mp4", max_open=2), frames)
    found = {name: numbers_in(tmp_path / name) for name in names_in(tmp_path)}
    assert found == {"a.mp4": [1, 3, 5], "b+2.mp4": [6], "b.mp4": [2], "c.mp4": [4]}


def test_a_thousand_keys_have_a_thousand_whole_videos(tmp_path):
    sink = video_sink(tmp_path / "{stream_id}.mp4", max_open=8)
    with sink:
        for key in range(1000):
            sink.write(tiny(key % 100, f"key/{key}"), [], [])
            assert len(sink._encoders) <= 8
    assert sink.num_refused == 0
    paths = list(tmp_path.iterdir())
    assert len(paths) == 1000
    assert all(numbers_in(path) for path in paths[::50])


def test_pictures_of_many_streams_are_bounded_and_all_written(tmp_path):
    sink = picture_sink(tmp_path / "{stream_id}.png", max_open=3)
    with sink:
        for key in range(20):
            sink.write(tiny(key, f"key{key}"), [], [])
            assert len(sink._albums) <= 3
    assert len(names_in(tmp_path)) == 20


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_a_stream_whose_file_fails_harms_no_other(tmp_path, suffix, caplog):
    (tmp_path / "bad").write_text("a file where a folder must be")
    make_sink = video_sink if suffix == ".mp4" else picture_sink
    with make_sink(tmp_path / "{stream_id}" / f"a{suffix}") as sink:
        for number in range(3):
            for stream_id in ("bad", "good"):
                sink.write(tiny(number, stream_id), [], [])
            sink.flush()
    assert (tmp_path / "good" / f"a{suffix}").stat().st_size > 0
    num_more = suffix == ".png"  # pictures are tried a last time when the sink is closed
    assert sink.num_refused == 3 + num_more
    assert caplog.text.count("left out for 30 s") == 1 + num_more


def test_a_stream_that_failed_is_tried_again_after_its_pause():
    faults = StreamFaults(pause_s=0.0)
    faults.add("gate", NotWritableError("a.mp4", "no space left"))
    assert not faults.refuses("gate")
    faults = StreamFaults(pause_s=1e6)
    faults.add("gate", NotWritableError("a.mp4", "no space left"))
    assert faults.refuses("gate")
    assert not faults.refuses("barn")
    assert faults.num_refused == 2
    faults.forget("gate")
    assert not faults.refuses("gate")


def test_closing_a_stream_ends_its_file_and_no_other(tmp_path):
    sink = video_sink(tmp_path / "{stream_id}.mp4")
    for stream_id in ("a", "b"):
        sink.write(tiny(1, stream_id), [], [])
    sink.close_stream("a")
    sink.close_stream("never seen")
    sink.write(tiny(2, "b"), [], [])
    assert numbers_in(tmp_path / "a.mp4") == [1]
    sink.close()
    assert numbers_in(tmp_path / "b.mp4") == [1, 2]


def test_closing_a_stream_writes_its_picture(tmp_path):
    sink = picture_sink(tmp_path / "{stream_id}.png")
    for stream_id in ("a", "b"):
        sink.write(tiny(1, stream_id), [], [])
    sink.close_stream("a")
    assert names_in(tmp_path) == ["a.png"]


def test_the_first_stream_keeps_the_plain_path():
    files = StreamFiles(Path("seen.mp4"), overwrite=False)
    found = [str(files.next_path(one)) for one in ("gate", "barn", "gate")]
    assert found == ["seen.mp4", "seen-barn.mp4", "seen.mp4"]
