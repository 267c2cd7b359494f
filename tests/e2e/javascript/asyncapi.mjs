// Parse an AsyncAPI document as @asyncapi/cli does: node asyncapi.mjs FILE. Prints its topics.

import { fromFile, Parser } from "@asyncapi/parser";

const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
for (const one of diagnostics.filter((one) => one.severity < 2)) {
  console.error(one.path.join("."), one.message);
}
if (!document) process.exit(1);
for (const channel of document.channels().all()) console.log(channel.address());
