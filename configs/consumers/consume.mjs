// Print the records of topics, each once: node consume.mjs HOST:PORT TOPIC...
// Needs kafkajs alone (npm install kafkajs), with its default settings.

import { Kafka, logLevel } from "kafkajs";

const MAX_SEEN = 100_000;
const [broker, ...topics] = process.argv.slice(2);

const kafka = new Kafka({ clientId: "consume", brokers: [broker], logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: "consume-js" });
await consumer.connect();
await consumer.subscribe({ topics, fromBeginning: true });

const seen = new Set();
await consumer.run({
  eachMessage: async ({ topic, message }) => {
    const headers = message.headers;
    const id = headers.ce_id.toString();
    // A record may be delivered again after a fault; it has the same source, id and body then.
    const key = `${headers.ce_source} ${id}`;
    if (seen.has(key)) return;
    seen.add(key);
    if (seen.size > MAX_SEEN) seen.delete(seen.values().next().value);
    const reason = headers.maskstream_error_reason?.toString();
    // A dead letter's value is any bytes.
    const isLetter = reason !== undefined;
    const type = isLetter ? topic : headers.ce_type.toString();
    const record = isLetter
      ? { stream_id: message.key.toString(), reason }
      : JSON.parse(message.value.toString());
    console.log(JSON.stringify({ id, type, record }));
  },
});
