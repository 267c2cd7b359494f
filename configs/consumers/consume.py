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
seen: dict[str, None] = {}
for message in consumer:
    headers = dict(message.headers)
    record_id = headers["ce_id"].decode()
    # A record may be delivered again after a fault; it has the same id and body then.
    if record_id in seen:
        continue
    seen[record_id] = None
    if len(seen) > MAX_SEEN:
        del seen[next(iter(seen))]
    record = json.loads(message.value)
    line = {"id": record_id, "type": headers["ce_type"].decode(), "record": record}
    print(json.dumps(line), flush=True)
