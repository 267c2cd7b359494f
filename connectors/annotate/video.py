"""Annotated video: every frame with its masklets, names and latest events."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress

from typing_extensions import override

from connectors.annotate.config import VideoSinkConfig
from connectors.annotate.draw import Style, draw, drawing_size
from connectors.annotate.encoder import VideoEncoder
from connectors.annotate.files import StreamFaults, StreamFiles
from connectors.base import Overlay, PictureSink
from connectors.errors import SinkError
from connectors.frame import Frame


class VideoSink(PictureSink):
    """Writes H.264 files, one per stream, readable up to the last second even after a kill.

    Frames keep their distances in media time; gaps longer than two seconds, reconnects and loops
    are shortened to one frame. A stream goes on in another file, named by the time, after
    ``segment_s`` or ``segment_bytes``, after a failure, and where its name is taken. At most
    ``max_open`` files are open: the one unused for longest is closed. A file that fails costs its
    stream's frames for a while, logged and counted in ``num_refused``; the other streams go on.

    Guarantee: best effort; fragments of at most one second of media time, so a killed process
        loses no more than that. ``flush`` does not close the current fragment, ``close`` does. A
        file that fails is cut behind its last whole fragment, and removed if it has none.
    Ordering: that of the writes, within each stream.
    Parallelism: one writer per path, in this process and all others.
    """

    def __init__(self, *, config: VideoSinkConfig, now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._style = Style(min_width=config.min_width, mask_opacity=config.mask_opacity)
        self._files = StreamFiles(config.path, overwrite=config.overwrite, now=now)
        self._faults = StreamFaults()
        self._encoders: OrderedDict[str, VideoEncoder] = OrderedDict()

    @property
    @override
    def num_refused(self) -> int:
        return self._faults.num_refused

    @override
    def open(self) -> None:
        self._files.open()

    @override
    def write(self, frame: Frame, overlays: Sequence[Overlay], captions: Sequence[str]) -> None:
        stream_id = frame.stream_id
        if self._faults.refuses(stream_id):
            return
        try:
            self._encoder_for(frame).add(frame, draw(frame.pixels, overlays, captions, self._style))
        except SinkError as error:
            self._faults.add(stream_id, error)
            if encoder := self._encoders.pop(stream_id, None):
                with suppress(SinkError):  # the first error says it
                    encoder.end()

    @override
    def flush(self) -> None:
        """Nothing: fragments are closed by time."""

    @override
    def close_stream(self, stream_id: str) -> None:
        self._end(stream_id)
        self._faults.forget(stream_id)

    @override
    def close(self) -> None:
        for stream_id in tuple(self._encoders):
            self._end(stream_id)
        self._files.close()

    def _encoder_for(self, frame: Frame) -> VideoEncoder:
        stream_id = frame.stream_id
        if stream_id in self._encoders:
            if not self._is_full(self._encoders[stream_id]):
                self._encoders.move_to_end(stream_id)
                return self._encoders[stream_id]
            self._end(stream_id)
        if len(self._encoders) >= self._config.max_open:
            self._end(next(iter(self._encoders)))
        self._encoders[stream_id] = self._begin(frame)
        return self._encoders[stream_id]

    def _begin(self, frame: Frame) -> VideoEncoder:
        height, width = frame.pixels.shape[:2]
        path = self._files.next_path(frame.stream_id)
        if self._config.overwrite:
            with suppress(OSError):  # told when the file is opened
                path.unlink(missing_ok=True)
        size_hw = drawing_size(height, width, self._style)
        return VideoEncoder.begin(path, size_hw, fps=self._config.fps, quality=self._config.quality)

    def _is_full(self, encoder: VideoEncoder) -> bool:
        length_s, num_bytes = self._config.segment_s, self._config.segment_bytes
        is_long = bool(length_s) and encoder.length_us >= length_s * 1e6
        return is_long or (bool(num_bytes) and encoder.num_bytes >= num_bytes)

    def _end(self, stream_id: str) -> None:
        encoder = self._encoders.pop(stream_id, None)
        if encoder is None:
            return
        try:
            encoder.end()
        except SinkError as error:
            self._faults.add(stream_id, error)
