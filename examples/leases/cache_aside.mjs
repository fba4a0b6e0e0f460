import { setTimeout as sleep } from 'node:timers/promises';
import { createClientPool, RESP_TYPES } from 'redis';

// As many connections as callers at a time: a read that waits occupies one. The time-out is longer than WAIT.
const cache = createClientPool({
  url: process.env.REDIS_URL ?? 'redis://localhost:6379',
  socket: { connectTimeout: 1000, socketTimeout: 3000, reconnectStrategy: (tries) => Math.min(50 * tries, 1000) },
  pingInterval: 1000, // otherwise socketTimeout ends idle connections
  disableOfflineQueue: true,
  commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
}, { maximum: 1000, acquireTimeout: 1000 });
cache.on('error', () => {}); // the calls report it, too
cache.connect().catch(() => {});

/** The value of key as a Buffer, or null. load() asks the origin, and returns null when it has nothing. */
export async function cached(key, load) {
  let connected = false;
  try {
    return await cache.execute((own) => { // a connection, kept until what was loaded is stored
      connected = true;
      return through(own, key, load);
    });
  } catch (error) {
    if (connected) throw error; // the error of the load
    return load(); // no connection: go on without the cache
  }
}

async function through(own, key, load) {
  const end = performance.now() + 2000;
  for (let left = 2000; left > 0; left = end - performance.now()) {
    const reply = await own.sendCommand(['SMARTCACHE.GETLOCK', key, 'WAIT', `${Math.ceil(left)}ms`]).catch(() => null);
    if (reply === null) break; // the cache is unreachable: go on without it
    const [, value, token, , leaseMs] = reply;
    const state = reply[0].toString(); // strings come as Buffers
    if (state === 'MISS') return fill(own, key, token, load);
    if (state !== 'BUSY') { // HIT, STALE or ABSENT
      if (token) cache.execute((other) => fill(other, key, token, load)).catch(() => {});
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

async function send(own, ...words) {
  await own.sendCommand(words).catch(() => {}); // the caller has its value; the lease ends by itself
}
