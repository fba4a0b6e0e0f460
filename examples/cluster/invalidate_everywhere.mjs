// REDIS_NODES=10.0.0.1:6379,10.0.0.2:6379 node invalidate_everywhere.mjs SMARTCACHE.INVALIDATE TAGS 1 user:42

import { argv, env } from 'node:process';
import { fileURLToPath } from 'node:url';
import { createClient } from 'redis';

// Some primaries did not run it: failed has their errors, replies the answers of the others, by host:port.
export class NotEverywhere extends Error {
  constructor(replies, failed) {
    super([...failed].map(([node, error]) => `${node}: ${error.message}`).join(', '));
    Object.assign(this, { replies, failed });
  }
}

// On a connection of its own: the cluster client would keep trying to reach a node that is down.
async function ask(node, words) {
  const at = node.lastIndexOf(':');
  const client = createClient({
    socket: {
      host: node.slice(0, at), port: Number(node.slice(at + 1)),
      connectTimeout: 1000, socketTimeout: 2000, reconnectStrategy: false,
    },
  });
  client.on('error', () => {}); // the promises report it
  try {
    await client.connect();
    return await client.sendCommand(words);
  } finally {
    client.destroy();
  }
}

// Which nodes are primaries now, according to the first node that answers.
async function primaries(nodes) {
  const errors = [];
  for (const node of nodes) {
    try {
      const slots = await ask(node, ['CLUSTER', 'SLOTS']);
      const own = node.slice(0, node.lastIndexOf(':'));
      return new Set(slots.map(([, , [host, port]]) => `${host || own}:${port}`));
    } catch (error) {
      errors.push(error);
    }
  }
  throw new AggregateError(errors, 'no node of the cluster answers');
}

// The answer of each primary, by host:port. All are asked at once: one that hangs delays no other.
export async function everywhere(nodes, ...words) {
  const replies = new Map(), failed = new Map();
  await Promise.all([...await primaries(nodes)].map((node) => ask(node, words).then(
    (reply) => replies.set(node, reply),
    (error) => failed.set(node, error),
  )));
  if (failed.size > 0) throw new NotEverywhere(replies, failed);
  return replies;
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  let replies, failed = new Map();
  try {
    replies = await everywhere(env.REDIS_NODES.split(','), ...argv.slice(2));
  } catch (error) {
    if (!(error instanceof NotEverywhere)) throw error;
    ({ replies, failed } = error);
  }
  for (const [node, reply] of replies) console.log(node, String(reply));
  for (const [node, error] of failed) console.error(node, 'FAILED:', error.message);
  process.exitCode = failed.size > 0 ? 1 : 0;
}
