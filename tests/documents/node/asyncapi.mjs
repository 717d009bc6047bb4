// Parses the AsyncAPI document of a running server: node asyncapi.mjs http://127.0.0.1:8080
// The parser does not hold examples of AsyncAPI 3 to their payloads; that is done here.
import { DiagnosticSeverity, Parser } from '@asyncapi/parser';
import Ajv from 'ajv';
import addFormats from 'ajv-formats';

const answer = await fetch(`${process.argv[2]}/asyncapi.json`);
if (!answer.ok) throw new Error(`/asyncapi.json answered ${answer.status}`);
const text = await answer.text();
const { document, diagnostics } = await new Parser().parse(text);
const faults = diagnostics
  .filter((d) => [DiagnosticSeverity.Error, DiagnosticSeverity.Warning].includes(d.severity))
  .map((d) => `${d.code} at ${d.path.join('.')}: ${d.message}`);
if (!document || faults.length > 0) {
  console.error(faults.join('\n'));
  process.exit(1);
}
console.log(`ok AsyncAPI ${document.version()} is valid: ${document.allMessages().all().length} messages`);

const source = JSON.parse(text);
const ajv = new Ajv({ strict: false, allErrors: true });
addFormats(ajv);
ajv.addSchema(source, 'document');
let count = 0;
for (const [name, message] of Object.entries(source.components.messages)) {
  const fits = ajv.getSchema(`document#/components/messages/${name}/payload`);
  if (!message.examples?.length) faults.push(`${name} has no example`);
  for (const { payload } of message.examples ?? []) {
    count += 1;
    if (!fits(payload)) faults.push(`${name}: ${ajv.errorsText(fits.errors)}`);
    // A schema that takes anything would pass too.
    const { type, ...untyped } = payload;
    if (fits(untyped)) faults.push(`${name}: takes a frame without type`);
  }
}
if (faults.length > 0) {
  console.error(faults.join('\n'));
  process.exit(1);
}
console.log(`ok each message has an example that fits its payload: ${count} examples`);
