"""Frames to Kafka, as the Kafka source reads them."""

import logging

from typing_extensions import override

from connectors.base import FrameSink
from connectors.frame import Frame
from connectors.kafka.config import FramesSinkConfig
from connectors.kafka.sink import KafkaSink
from connectors.pictures.encoding import encode_image
from connectors.record import Record, Topic

_log = logging.getLogger("maskstream.connectors.kafka")


class KafkaFrameSink(FrameSink):
    """Puts encoded frames on a topic, keyed by stream, for :class:`KafkaSource` to read.

    A frame that cannot be encoded, or is too large for the broker, is dropped, logged and counted
    in ``num_refused``; the others go on.

    Guarantee: at least once, as :class:`connectors.kafka.sink.KafkaSink`; a repeat has the same
        ``stream_epoch`` and ``frame_seq``. JPEG loses detail, PNG none.
    Ordering: that of the writes for each stream.
    Parallelism: one writer; several sinks may write to one topic.
    """

    def __init__(self, *, config: FramesSinkConfig) -> None:
        self._config = config
        self._sink = KafkaSink(config=config.to_records())
        self._num_unfit = 0

    @property
    @override
    def num_refused(self) -> int:
        return self._num_unfit + self._sink.num_refused

    @override
    def open(self) -> None:
        self._sink.open()

    @override
    def write(self, frame: Frame) -> None:
        try:
            record = self._to_record(frame)
        except ValueError as error:
            self._num_unfit += 1
            extra = {"stream": frame.stream_id}
            text = "frame %d of %r: %s; dropped"
            _log.error(text, frame.frame_seq, frame.stream_id, error, extra=extra)
            return
        self._sink.write([record])

    @override
    def flush(self) -> None:
        self._sink.flush()

    @override
    def close(self) -> None:
        self._sink.close()

    def _to_record(self, frame: Frame) -> Record:
        return Record(
            topic=Topic.FRAMES,
            key=frame.stream_id,
            value=encode_image(frame.pixels, self._config.image, quality=self._config.quality),
            headers=(
                ("content-type", f"image/{self._config.image}".encode()),
                ("stream_epoch", str(frame.stream_epoch).encode()),
                ("frame_seq", str(frame.frame_seq).encode()),
                ("pts_us", str(frame.pts_us).encode()),
            ),
            timestamp_ms=round(frame.captured_at.timestamp() * 1000),
        )
