// Read COUNT messages of topics, take each for a CloudEvent and hold it against the schema that it
// names: node verify.mjs HOST:PORT COUNT SCHEMAS TOPIC... Prints a line of JSON for each.

import { readFileSync, readdirSync } from "node:fs";
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { Kafka as Binding } from "cloudevents";
import { Kafka, logLevel } from "kafkajs";

const [broker, count, schemas, ...topics] = process.argv.slice(2);

const ajv = new Ajv({ strict: true, allErrors: true });
addFormats(ajv);
for (const file of readdirSync(schemas)) {
  ajv.addSchema(JSON.parse(readFileSync(`${schemas}/${file}`, "utf8")));
}

const kafka = new Kafka({ brokers: [broker], logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: "verify" });
await consumer.connect();
await consumer.subscribe({ topics, fromBeginning: true });
let left = Number(count);

await consumer.run({
  eachMessage: async ({ message }) => {
    const texts = Object.entries(message.headers).map(([name, value]) => [name, value.toString()]);
    const headers = Object.fromEntries(texts);
    const event = Binding.toEvent({ ...message, key: message.key.toString(), headers });
    event.validate();
    if (!ajv.validate(event.dataschema, event.data)) throw new Error(ajv.errorsText());
    console.log(JSON.stringify(event));
    left -= 1;
    if (left === 0) setImmediate(() => process.exit(0));
  },
});
// A message that is at fault is tried again for ever; this test is not to.
consumer.on(consumer.events.CRASH, ({ payload }) => {
  console.error(payload.error);
  process.exit(1);
});
