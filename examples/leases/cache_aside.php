<?php

/** The connection of this process: a read that waits or loads needs one of its own. */
function connection(): Redis
{
    static $own = null;
    if ($own === null) {
        $url = parse_url(getenv('REDIS_URL') ?: 'redis://localhost:6379');
        $new = new Redis();
        $new->connect($url['host'], $url['port'] ?? 6379, 1); // at most a second
        $new->setOption(Redis::OPT_READ_TIMEOUT, 3); // longer than WAIT
        $new->setOption(Redis::OPT_MAX_RETRIES, 0);
        $own = $new;
    }
    return $own;
}

/** The value of $key, or null. $load() asks the origin, and returns null when it has nothing. */
function cached(string $key, callable $load): ?string
{
    $end = hrtime(true) + 2_000_000_000;
    while (($left = intdiv($end - hrtime(true), 1_000_000)) > 0) {
        $reply = send('SMARTCACHE.GETLOCK', $key, 'WAIT', "{$left}ms");
        if (!is_array($reply)) {
            break; // the cache is unreachable: go on without it
        }
        [$state, $value, $token, , $lease_ms] = $reply; // nil is false
        if ($state === 'MISS') {
            return fill($key, $token, $load);
        }
        if ($state !== 'BUSY') { // HIT, STALE or ABSENT
            if ($token !== false) {
                register_shutdown_function('refresh', $key, $token, $load);
            }
            return $value === false ? null : $value;
        }
        usleep(max(0, min($lease_ms * 1000, intdiv($end - hrtime(true), 1000))));
    }
    return $load(); // and do not store
}

function fill(string $key, string $token, callable $load): ?string
{
    try {
        $value = $load();
    } catch (Throwable $error) {
        send('SMARTCACHE.UNLOCK', $key, $token, 'BACKOFF', '1s');
        throw $error;
    }
    if ($value === null) {
        send('SMARTCACHE.ABSENT', $key, 'TTL', '30s', 'TOKEN', $token);
    } else {
        send('SMARTCACHE.SET', $key, $value, 'TTL', '5m', 'SWR', '1m', 'TOKEN', $token);
    }
    return $value;
}

/** At the end of the request: PHP has no background, but the visitor need not wait for this. */
function refresh(string $key, string $token, callable $load): void
{
    if (function_exists('fastcgi_finish_request')) {
        fastcgi_finish_request();
    }
    try {
        fill($key, $token, $load);
    } catch (Throwable) {
        // the visitor has the old value
    }
}

/** The reply; null without a connection, false for an error of the server. */
function send(string ...$words): mixed
{
    try {
        return connection()->rawCommand(...$words);
    } catch (RedisException) {
        return null; // the caller gets its value all the same, and a lease ends by itself
    }
}
