"""One file a stream: names, parts, bounds and faults."""

import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from connectors.annotate.config import PictureSinkConfig, VideoSinkConfig
from connectors.annotate.encoder import VideoEncoder
from connectors.annotate.files import StreamFaults, StreamFiles
from connectors.annotate.picture import BestPictureSink
from connectors.annotate.video import VideoSink
from connectors.errors import NotWritableError
from tests.connectors.small_disk import small_disk
from tests.media import make_frame, number_of


def tiny(number=0, stream_id="cam"):
    return make_frame(number, stream_id=stream_id, width=32, height=24)


def epoch():
    return 0.0


STAMP = "19700101T000000Z"


def video_sink(path, **options):
    config = VideoSinkConfig(path=path, **{"fps": 10, "min_width": 0, **options})
    return VideoSink(config=config, now=epoch)


def picture_sink(path, **options):
    config = PictureSinkConfig(path=path, **{"min_width": 0, **options})
    return BestPictureSink(config=config, now=epoch)


def write_all(sink, frames):
    with sink:
        for frame in frames:
            sink.write(frame, [], [])


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def numbers_in(path):
    with av.open(path) as container:
        return [number_of(one.to_ndarray(format="rgb24")) for one in container.decode(video=0)]


def test_names_alike_have_files_of_their_own(tmp_path):
    write_all(video_sink(tmp_path / "{stream_id}.mp4"), [tiny(1, "a/b"), tiny(2, "a_b")])
    assert names_in(tmp_path) == ["a%2Fb.mp4", "a_b.mp4"]


def test_a_folder_may_be_named_by_the_stream(tmp_path):
    config = VideoSinkConfig(path=tmp_path / "{stream_id}" / "seen.mp4", min_width=0)
    write_all(VideoSink(config=config), [tiny(1, ".."), tiny(1, "gate")])
    files = config.list_files()
    assert files == [tmp_path / "%2E%2E" / "seen.mp4", tmp_path / "gate" / "seen.mp4"]


@pytest.mark.parametrize("make_sink", [video_sink, picture_sink])
def test_a_file_that_is_there_is_kept_and_another_is_named_by_its_time(tmp_path, make_sink):
    suffix = ".mp4" if make_sink is video_sink else ".png"
    for _ in range(3):
        write_all(make_sink(tmp_path / f"a{suffix}"), [tiny()])
    assert names_in(tmp_path) == [
        f"a-{STAMP}{suffix}", f"a-{STAMP}_002{suffix}", f"a{suffix}"
    ]  # fmt: skip


def test_numbered_pictures_are_kept_too(tmp_path):
    for _ in range(2):
        write_all(picture_sink(tmp_path / "a.png", num_pictures=2), [tiny(0), tiny(90)])
    assert names_in(tmp_path) == [
        "a-1.png", f"a-{STAMP}-1.png", f"a-{STAMP}-2.png", "a-2.png"
    ]  # fmt: skip


def test_files_of_former_runs_are_replaced_where_wanted_but_none_of_this_run(tmp_path):
    for name in ("a.mp4", "b.png"):
        (tmp_path / name).write_bytes(b"old")
        os.utime(tmp_path / name, (0, 0))
    with (
        video_sink(tmp_path / "a.mp4", overwrite=True) as video,
        video_sink(tmp_path / "{stream_id}.mp4", overwrite=True) as another,
        picture_sink(tmp_path / "b.png", overwrite=True) as pictures,
    ):
        for sink in (video, another, pictures):
            sink.write(tiny(1, "a"), [], [])
        video.close_stream("a")
        video.write(tiny(2, "a"), [], [])
    assert numbers_in(tmp_path / "a.mp4") == [1]
    assert numbers_in(tmp_path / f"a-{STAMP}.mp4") == [1]
    assert numbers_in(tmp_path / f"a-{STAMP}_002.mp4") == [2]
    assert (tmp_path / "b.png").stat().st_size > 3


@pytest.mark.parametrize("name", ["a.mp4", "{stream_id}/a.mp4"])
def test_a_path_has_one_owner(tmp_path, name):
    with video_sink(tmp_path / name), pytest.raises(NotWritableError, match="another sink writes"):
        video_sink(tmp_path / "x" / ".." / name if "/" in name else tmp_path / name).open()
    write_all(video_sink(tmp_path / name), [tiny()])
    assert not list(tmp_path.glob(".*"))


def test_listed_files_are_those_of_all_streams_and_parts(tmp_path):
    config = VideoSinkConfig(path=tmp_path / "a.mp4", min_width=0)
    for _ in range(2):
        write_all(VideoSink(config=config, now=epoch), [tiny(0, "x"), tiny(0, "y")])
    (tmp_path / "abc.mp4").touch()
    assert [path.name for path in config.list_files()] == [
        f"a-{STAMP}.mp4", f"a-y-{STAMP}.mp4", "a-y.mp4", "a.mp4"
    ]  # fmt: skip


def test_the_longest_unused_file_is_closed_and_goes_on_in_another(tmp_path):
    frames = [tiny(1, "a"), tiny(2, "b"), tiny(3, "a"), tiny(4, "c"), tiny(5, "a"), tiny(6, "b")]
    write_all(video_sink(tmp_path / "{stream_id}.mp4", max_open=2), frames)
    found = {name: numbers_in(tmp_path / name) for name in names_in(tmp_path)}
    assert found == {"a.mp4": [1, 3, 5], f"b-{STAMP}.mp4": [6], "b.mp4": [2], "c.mp4": [4]}


def test_a_file_that_appears_at_the_last_moment_is_not_touched(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"of somebody else")
    with pytest.raises(NotWritableError, match=r"a\.mp4.*File exists"):
        VideoEncoder.begin(path, (48, 64), fps=10)
    assert path.read_bytes() == b"of somebody else"


def test_gaps_count_towards_the_length_of_a_file(tmp_path):
    frames = [tiny(number) for number in (0, 100, 101)]
    write_all(video_sink(tmp_path / "a.mp4", segment_s=10), frames)
    assert sorted(numbers_in(path) for path in tmp_path.iterdir()) == [[0, 100], [101]]


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
    sink.write(tiny(1, "c"), [], [])
    sink._albums["c"].saved_s -= 5  # as if it had waited for so long
    sink.write(tiny(2, "c"), [], [])
    assert names_in(tmp_path) == ["a.png", "c.png"]


def test_a_picture_is_written_anew_only_if_there_is_a_better_one(tmp_path):
    sink = picture_sink(tmp_path / "a.png")
    sink.write(tiny(1), [], [])
    sink.flush()
    (tmp_path / "a.png").unlink()
    sink.flush()
    assert names_in(tmp_path) == []
    sink.close()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"segment_s": 0.5}, [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]),
        ({"segment_bytes": 1}, [[number] for number in range(12)]),
        ({"segment_s": 0, "segment_bytes": None}, [[*range(12)]]),
    ],
)
def test_a_video_goes_on_in_another_file_when_it_is_long_or_large(tmp_path, options, found):
    write_all(video_sink(tmp_path / "a.mp4", **options), [tiny(number) for number in range(12)])
    assert sorted(numbers_in(path) for path in tmp_path.iterdir()) == found


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_on_a_full_disk_a_video_keeps_what_plays_and_goes_on_when_there_is_room(tmp_path, suffix):
    with small_disk(tmp_path / "disk", num_kb=1024) as folder:
        sink = video_sink(folder / f"{{stream_id}}{suffix}", quality=0)
        sink._faults = StreamFaults(pause_s=0.0)
        with sink:
            number = 0
            while sink.num_refused < 3:
                noise = np.random.default_rng(number).integers(0, 255, (96, 128, 3), np.uint8)
                sink.write(replace(make_frame(number), pixels=noise), [], [])
                number += 1
            [first] = folder.glob(f"*{suffix}")  # nothing is left of the failed ones
            num_kept = len(numbers_in(first))
            assert 0 < num_kept < number
            assert num_kept % 10 == 0  # whole fragments
            first.unlink()
            sink.write(make_frame(number), [], [])
        [second] = folder.glob(f"*{suffix}")
        assert numbers_in(second) == [number]


def test_the_first_stream_keeps_the_plain_path():
    files = StreamFiles(Path("seen.mp4"), overwrite=False)
    found = [str(files.next_path(one)) for one in ("gate", "barn", "gate")]
    assert found == ["seen.mp4", "seen-barn.mp4", "seen.mp4"]


def test_a_video_of_which_no_fragment_is_whole_is_removed(tmp_path):
    with small_disk(tmp_path / "disk", num_kb=128) as folder:
        with video_sink(folder / "a.mp4", quality=0) as sink:
            for number in range(12):
                noise = np.random.default_rng(number).integers(0, 255, (96, 128, 3), np.uint8)
                sink.write(replace(make_frame(number), pixels=noise), [], [])
            assert sink.num_refused
        assert names_in(folder) == []
