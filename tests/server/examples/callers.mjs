// Calls examples/leases/cache_aside.mjs, or the one that its argument names, as tests/server/examples.rs describes.

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const { cached } = await import(process.argv[2] ?? './cache_aside.mjs');

let loads = 0;
const down = new Error('the origin is down');

async function load(ms, what) {
  loads += 1;
  await sleep(ms);
  if (what === 'fail') throw down;
  return what === 'nothing' ? null : Buffer.from(what, 'hex');
}

async function call(key, ms, what) {
  try {
    const value = await cached(key, () => load(ms, what));
    return value === null ? 'nothing' : value.toString('hex');
  } catch (error) {
    if (error !== down) throw error;
    return 'failed';
  }
}

async function read(key, callers, ms, what) {
  const calls = [];
  for (let n = 0; n < Number(callers); n += 1) {
    calls.push(call(key, Number(ms), what));
    if (Number(callers) <= 100) await sleep(5);
  }
  const answers = await Promise.all(calls);
  const counts = new Map();
  for (const answer of answers.sort()) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  return [...counts].map(([answer, n]) => `${answer}*${n}`).join(' ');
}

for await (const line of createInterface({ input: process.stdin })) {
  const [word, ...words] = line.split(' ');
  console.log(word === 'read' ? await read(...words) : loads);
}
process.exit();
