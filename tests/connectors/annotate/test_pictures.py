"""Video and picture sinks, and what they draw."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.annotate.config import PictureSinkConfig, VideoSinkConfig
from connectors.annotate.draw import Marks, Style, colour_of, draw, drawing_size
from connectors.annotate.picture import BestPictureSink
from connectors.annotate.video import VideoSink
from connectors.base import Overlay
from connectors.errors import NotWritableError
from tests.media import make_frame, number_of

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from connectors.annotate.config import VideoSinkConfig
from connectors.annotate.video import VideoSink
from tests.media import make_frame

sink = VideoSink(config=VideoSinkConfig(path=Path(sys.argv[1]), fps=10, min_width=0))
sink.open()
for number in range(10**6):
    sink.write(make_frame(number), [], [])
    if number == 100:
        print("ready", flush=True)
"""


def box_overlay(frame, number=1, *, left=20, top=50, size=30, **options):
    mask = np.zeros(frame.pixels.shape[:2], bool)
    mask[top : top + size, left : left + size] = True
    return Overlay(number=number, label="deer", bits=mask, **options)


def read_back(path):
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = [
            (frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)
        ]
        return stream.codec_context, frames


def video_sink(path, **options):
    return VideoSink(config=VideoSinkConfig(path=path, **{"fps": 10, "min_width": 0, **options}))


def test_video_is_h264_with_every_frame_at_its_time(tmp_path):
    with video_sink(tmp_path / "new" / "a.mp4") as sink:
        for number in range(12):
            sink.write(make_frame(number), [], [])
    codec, frames = read_back(tmp_path / "new" / "a.mp4")
    assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    assert [number_of(pixels) for _, pixels in frames] == list(range(12))
    assert [round(time, 3) for time, _ in frames] == [number / 10 for number in range(12)]


def test_small_frames_are_doubled_and_odd_ones_made_even(tmp_path):
    with video_sink(tmp_path / "a.mp4", min_width=200) as sink:
        sink.write(make_frame(1, width=127, height=95), [], [])
        sink.write(make_frame(2, width=64, height=48), [], [])
    _, frames = read_back(tmp_path / "a.mp4")
    assert [pixels.shape for _, pixels in frames] == [(190, 254, 3)] * 2


def test_reconnect_and_long_gaps_are_shortened(tmp_path):
    with video_sink(tmp_path / "a.mp4") as sink:
        for number, epoch in ((0, 0), (1, 0), (900, 0), (3, 1)):
            sink.write(make_frame(number, epoch=epoch), [], [])
    _, frames = read_back(tmp_path / "a.mp4")
    assert [round(time, 3) for time, _ in frames] == [0, 0.1, 0.2, 0.3]


def test_each_stream_has_its_own_file(tmp_path):
    with video_sink(tmp_path / "seen.mp4") as sink:
        for stream_id in ("gate", "barn/2"):
            sink.write(make_frame(1, stream_id=stream_id), [], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seen-barn%2F2.mp4", "seen.mp4"]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_killed_writer_leaves_all_but_the_last_second(tmp_path, name):
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path / name)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as writer:
        writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
    _, frames = read_back(tmp_path / name)
    assert len(frames) >= 91
    assert [number_of(pixels) for _, pixels in frames] == list(range(len(frames)))


def test_frames_far_apart_do_not_wait_for_one_another(tmp_path):
    with video_sink(tmp_path / "a.mp4") as sink:
        for number in (0, 100, 200):
            sink.write(make_frame(number), [], [])
        _, frames = read_back(tmp_path / "a.mp4")
        assert [number_of(pixels) for _, pixels in frames] == [0, 100]


def test_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(NotWritableError, match="taken"):
        video_sink(tmp_path / "taken" / "a.mp4").open()
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(NotWritableError, match=r"a\.mp4"):
        video_sink(tmp_path / "a.mp4").open()


def test_best_picture_is_the_one_that_shows_most(tmp_path):
    config = PictureSinkConfig(path=tmp_path / "best.png", min_width=0)
    with BestPictureSink(config=config) as sink:
        for number in range(5):
            frame = make_frame(number)
            sink.write(frame, [box_overlay(frame, size=20)] if number == 3 else [], [])
    assert number_of(cv2.imread(str(tmp_path / "best.png"))[..., ::-1]) == 3


def test_several_pictures_are_apart_in_time_and_numbered(tmp_path):
    config = PictureSinkConfig(path=tmp_path / "best.png", num_pictures=3, min_width=0)
    with BestPictureSink(config=config) as sink:
        for number in range(40):
            frame = make_frame(number)
            sink.write(frame, [box_overlay(frame, size=10 + number % 10)], [])
    numbers = [number_of(cv2.imread(str(path))[..., ::-1]) for path in sorted(tmp_path.iterdir())]
    assert len(numbers) == 3
    assert np.diff(numbers).min() >= 10


def test_mask_is_tinted_in_the_colour_of_its_number_and_the_rest_is_not():
    frame = make_frame(0)
    drawn = draw(frame.pixels, [box_overlay(frame, 4)], [], Style(min_width=0, mask_opacity=1.0))
    assert tuple(drawn[65, 35]) == colour_of(4)
    assert np.array_equal(drawn[:, 100:], frame.pixels[:, 100:])


def test_outline_follows_the_edge_of_the_mask():
    frame = make_frame(0, width=300, height=200)
    y, x = np.mgrid[:200, :300]
    disc = np.hypot(y - 100, x - 200) < 60
    overlay = Overlay(number=1, label="", bits=disc)
    drawn = draw(frame.pixels, [overlay], [], Style(min_width=0, mask_opacity=0.0))
    edge = disc & ~cv2.erode(disc.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    changed = (drawn != frame.pixels).any(axis=2)
    from_edge, from_line = (
        cv2.distanceTransform((~one).astype(np.uint8), cv2.DIST_L2, 5) for one in (edge, changed)
    )
    assert from_edge[changed].max() < 4
    assert from_line[edge].max() <= 1


def test_tint_mixes_the_picture_and_the_colour():
    frame = make_frame(0)
    frame.pixels[:] = (200, 100, 0)
    drawn = draw(frame.pixels, [box_overlay(frame, 4)], [], Style(min_width=0, mask_opacity=0.25))
    mixed = 0.75 * np.array([200, 100, 0]) + 0.25 * np.array(colour_of(4))
    assert np.abs(drawn[65, 35] - mixed).max() <= 1
    assert tuple(drawn[10, 120]) == (200, 100, 0)


def test_occluded_objects_are_dim_and_dashed():
    frame = make_frame(0)
    style = Style(min_width=0)
    solid = draw(frame.pixels, [box_overlay(frame)], [], style).astype(int)
    dashed = draw(frame.pixels, [box_overlay(frame, is_occluded=True)], [], style).astype(int)
    change = [
        np.abs(one[50:80, 20:50] - frame.pixels[50:80, 20:50]).sum() for one in (solid, dashed)
    ]
    assert 0 < change[1] < change[0]


def test_captions_are_drawn_in_the_corner_and_the_input_is_untouched():
    frame = make_frame(0, width=640, height=360)
    before = frame.pixels.copy()
    drawn = draw(frame.pixels, [], ["deer 1 entered", "déer"], Style(min_width=0))
    assert not np.array_equal(drawn[:60, :200], before[:60, :200])
    assert np.array_equal(drawn[100:], before[100:])
    assert np.array_equal(frame.pixels, before)


@pytest.mark.parametrize(
    ("size_hw", "drawn_hw"),
    [
        ((90, 120), (720, 960)),
        ((1, 1), (8, 8)),
        ((4320, 7680), (1152, 2048)),
        ((4000, 1), (2048, 2)),
        ((1000, 1500), (1000, 1500)),
    ],
)
def test_drawings_of_stills_are_neither_tiny_nor_huge(size_hw, drawn_hw):
    style = Style(min_width=960, max_factor=8, max_side=2048)
    assert drawing_size(*size_hw, style) == drawn_hw


def test_thin_masks_survive_shrinking():
    pixels, mask = np.zeros((1600, 1600, 3), np.uint8), np.zeros((1600, 1600), bool)
    mask[:, 800:802] = True
    drawn = draw(pixels, [Overlay(number=1, label="", bits=mask)], [], Style(max_side=400))
    assert drawn[:, 198:203].max() > 150
    assert drawn[:, :180].max() == 0


def test_marks_are_green_where_meant_and_red_where_not():
    frame = make_frame(0, width=300, height=200)
    marks = Marks(
        points=((50, 150, True), (100, 150, False)),
        boxes=((180, 110, 60, 40, True), (-20, -20, 1000, 1000, False)),
    )
    drawn = draw(frame.pixels, [], [], Style(min_width=0), marks=marks).astype(int)
    green, red = drawn[150, 50], drawn[150, 100]
    assert green[1] > green[0] + 50
    assert red[0] > red[1] + 50
    assert (drawn[110, 180:240, 1] > drawn[110, 180:240, 0] + 50).any()
    assert np.array_equal(drawn[130, 200:220], frame.pixels[130, 200:220])


def test_objects_without_a_label_have_no_plate():
    frame = make_frame(0, width=300, height=200)
    overlay = replace(box_overlay(frame, left=140, top=120), label="")
    drawn = draw(frame.pixels, [overlay], [], Style(min_width=0))
    assert np.array_equal(drawn[:115], frame.pixels[:115])
    assert not np.array_equal(drawn[115:], frame.pixels[115:])


@settings(max_examples=30, deadline=timedelta(seconds=5))
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(0, 2**20),
    st.booleans(),
    st.text(max_size=60),
)
def test_drawing_never_fails(size, seed, is_occluded, label):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    mask = rng.random(size) < rng.random()
    overlay = Overlay(number=seed, label=label, bits=mask, is_occluded=is_occluded)
    drawn = draw(pixels, [overlay], [label], Style())
    assert drawn.shape[0] % 2 == drawn.shape[1] % 2 == 0


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(4, 40), st.integers(4, 40)),
    st.sampled_from([Style(min_width=0), Style(), Style(max_factor=3), Style(max_side=30)]),
    st.integers(0, 2**20),
    st.booleans(),
)
def test_a_crop_is_drawn_as_the_whole_mask(size, style, seed, is_occluded):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    y0, x0 = (int(rng.integers(0, side - 1)) for side in size)
    bits = rng.random((int(rng.integers(1, size[0] - y0 + 1)), size[1] - x0)) < 0.7
    whole = np.zeros(size, bool)
    whole[y0 : y0 + bits.shape[0], x0:] = bits
    options = {"number": 1, "label": "deer", "is_occluded": is_occluded}
    crop = Overlay(bits=bits, x0=x0, y0=y0, **options)
    pictures = [draw(pixels, [one], [], style) for one in (crop, Overlay(bits=whole, **options))]
    assert np.array_equal(*pictures)


def test_colours_of_neighbouring_numbers_differ():
    colours = np.array([colour_of(number) for number in range(40)], int)
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 100
