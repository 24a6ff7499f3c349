// The baseline of batch validation: JSON.parse and the thirteen checks, as a service in JavaScript does them. Reads batches,
// one JSON text, from the files that it is named; then a line `INDEX TIMES` asks for one of them to be checked so often,
// and a line of seconds answers.
'use strict';
const fs = require('fs');
const readline = require('readline');

const KINDS = ['runtime_started', 'assistant_text', 'tool_request', 'tool_response', 'skill_loaded', 'file_uploaded',
  'notification', 'stream_error', 'runtime_terminal'];
const KNOWN = new Set(KINDS);

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isWhole = (value) => typeof value === 'number' && Number.isInteger(value) && value >= 0;
const refuse = (code, message) => ({ ok: false, code, message });

function isJson(value) {
  if (value === null) return true;
  switch (typeof value) {
    case 'string': case 'boolean': return true;
    case 'number': return Number.isFinite(value);
    case 'object':
      if (Array.isArray(value)) return value.every(isJson);
      for (const key of Object.keys(value)) if (!isJson(value[key])) return false;
      return true;
    default: return false;
  }
}

function validate(batch) {
  if (!isObject(batch)) return refuse('invalid_envelope', 'batch must be a JSON object');
  if (batch.v !== 1) return refuse('version_mismatch', `batch.v must equal 1 (got ${JSON.stringify(batch.v)})`);
  if (typeof batch.runId !== 'string' || batch.runId.length === 0) {
    return refuse('missing_run_id', 'batch.runId must be a non-empty string');
  }
  if (!Array.isArray(batch.events) || batch.events.length === 0) {
    return refuse('empty_batch', 'batch.events must be a non-empty array');
  }
  if (batch.events.length > 256) {
    return refuse('batch_too_large', `batch.events has ${batch.events.length} entries; max is 256`);
  }
  const events = [];
  let last = null;
  for (let i = 0; i < batch.events.length; i++) {
    const event = batch.events[i];
    const invalid = (what) => refuse('invalid_event', `events[${i}]${what}`);
    if (!isObject(event)) return invalid(' must be a JSON object');
    const { seq, tMs, kind, data } = event;
    if (!isWhole(seq)) return invalid('.seq must be a non-negative integer');
    if (!isWhole(tMs)) return invalid('.tMs must be a non-negative integer');
    if (typeof kind !== 'string' || !KNOWN.has(kind)) {
      return invalid(`.kind must be one of: ${KINDS.join(', ')} (got ${JSON.stringify(kind)})`);
    }
    if (!isObject(data)) return invalid('.data must be a JSON object');
    if (!isJson(data)) return invalid('.data must be JSON-serializable');
    if (last !== null && seq <= last.seq) {
      return refuse('seq_not_monotonic', `events[${i}].seq=${seq} must be strictly greater than the previous seq=${last.seq}`);
    }
    if (last !== null && tMs < last.tMs) {
      return refuse('t_ms_not_monotonic', `events[${i}].tMs=${tMs} must be >= the previous tMs=${last.tMs}`);
    }
    last = { seq, tMs, kind, data };
    events.push(last);
  }
  return { ok: true, batch: { v: 1, runId: batch.runId, events } };
}

const texts = process.argv.slice(2).map((file) => fs.readFileSync(file, 'utf8'));
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const [index, times] = line.split(' ').map(Number);
  const begin = process.hrtime.bigint();
  for (let n = 0; n < times; n++) {
    if (!validate(JSON.parse(texts[index])).ok) throw new Error('refused');
  }
  process.stdout.write(`${Number(process.hrtime.bigint() - begin) / 1e9}\n`);
});
