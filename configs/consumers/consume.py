"""Print the records of topics, each once.

``python consume.py HOST:PORT TOPIC...`` needs kafka-python alone (``pip install kafka-python``),
with its default settings.
"""

import json
import sys

from kafka import KafkaConsumer

MAX_SEEN = 100_000

consumer = KafkaConsumer(
    *sys.argv[2:], bootstrap_servers=sys.argv[1], group_id="consume", auto_offset_reset="earliest"
)
seen: dict[tuple[bytes | None, bytes], None] = {}
for message in consumer:
    headers = dict(message.headers)
    # A record may be delivered again after a fault; it has the same source, id and body then.
    key = headers.get("ce_source"), headers["ce_id"]
    if key in seen:
        continue
    seen[key] = None
    if len(seen) > MAX_SEEN:
        del seen[next(iter(seen))]
    if "maskstream_error_reason" in headers:  # a dead letter: its value is any bytes
        kind, reason = message.topic, headers["maskstream_error_reason"].decode()
        record = {"stream_id": message.key.decode(), "reason": reason}
    else:
        kind, record = headers["ce_type"].decode(), json.loads(message.value)
    print(json.dumps({"id": headers["ce_id"].decode(), "type": kind, "record": record}), flush=True)
