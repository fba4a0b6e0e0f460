import { setTimeout as sleep } from 'node:timers/promises';
import Redis from 'ioredis';

// ioredis has no pool: the connections that nobody uses just now. A read that waits occupies one.
const idle = [];

/** A connection for one caller. */
async function take() {
  for (let own = idle.pop(); own; own = idle.pop()) {
    if (own.status === 'ready') return own;
  }
  const own = new Redis(process.env.REDIS_URL ?? 'redis://localhost:6379', {
    lazyConnect: true, connectTimeout: 1000, retryStrategy: null, maxRetriesPerRequest: 0, enableReadyCheck: false,
    commandTimeout: 3000, // longer than WAIT
  });
  own.on('error', () => {}); // the calls report it, too
  await own.connect();
  return own;
}

function giveBack(own) {
  if (own.status === 'ready') idle.push(own);
}

/** The value of key as a Buffer, or null. load() asks the origin, and returns null when it has nothing. */
export async function cached(key, load) {
  const own = await take().catch(() => null);
  if (own === null) return load(); // the cache is unreachable: go on without it
  try {
    return await through(own, key, load);
  } finally {
    giveBack(own);
  }
}

async function through(own, key, load) {
  const end = performance.now() + 2000;
  for (let left = 2000; left > 0; left = end - performance.now()) {
    const reply = await send(own, 'SMARTCACHE.GETLOCK', key, 'WAIT', `${Math.ceil(left)}ms`);
    if (reply === null) break;
    const [, value, token, , leaseMs] = reply;
    const state = reply[0].toString(); // strings come as Buffers
    if (state === 'MISS') return fill(own, key, token, load);
    if (state !== 'BUSY') { // HIT, STALE or ABSENT
      if (token) refresh(key, token, load).catch(() => {});
      return value;
    }
    await sleep(Math.max(0, Math.min(leaseMs, end - performance.now())));
  }
  return load(); // and do not store
}

async function fill(own, key, token, load) {
  let value;
  try {
    value = await load();
  } catch (error) {
    await send(own, 'SMARTCACHE.UNLOCK', key, token, 'BACKOFF', '1s');
    throw error;
  }
  if (value === null) await send(own, 'SMARTCACHE.ABSENT', key, 'TTL', '30s', 'TOKEN', token);
  else await send(own, 'SMARTCACHE.SET', key, value, 'TTL', '5m', 'SWR', '1m', 'TOKEN', token);
  return value;
}

async function refresh(key, token, load) {
  const own = await take();
  await fill(own, key, token, load).finally(() => giveBack(own));
}

/** The reply, or null: then the caller gets its value all the same, and a lease ends by itself. */
async function send(own, command, ...words) {
  try {
    return await own.callBuffer(command, ...words);
  } catch (error) {
    if (error.name !== 'ReplyError') own.disconnect(); // a late reply would be taken for the next one
    return null;
  }
}
