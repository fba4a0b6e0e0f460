package cache

import (
	"context"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

// As many connections as callers at a time: a read that waits occupies one. The time-out is longer than WAIT.
var cache = redis.NewClient(&redis.Options{
	Addr:        os.Getenv("REDIS_ADDR"), // empty: localhost:6379
	PoolSize:    1000,
	DialTimeout: time.Second,
	ReadTimeout: 3 * time.Second,
	MaxRetries:  -1,
})

type conn interface {
	Process(context.Context, redis.Cmder) error
}

// Load asks the origin, and returns nil when it has nothing.
type Load func(context.Context) ([]byte, error)

// Cached returns the value of key, or nil.
func Cached(ctx context.Context, key string, load Load) ([]byte, error) {
	own := cache.Conn() // a connection, kept until what was loaded is stored
	defer own.Close()
	end := time.Now().Add(2 * time.Second)
	for left := time.Until(end); left > 0; left = time.Until(end) {
		wait := left.Round(time.Millisecond).Seconds()
		ask := redis.NewSliceCmd(ctx, "SMARTCACHE.GETLOCK", key, "WAIT", wait)
		if own.Process(ctx, ask) != nil {
			break // the cache is unreachable: go on without it
		}
		reply := ask.Val()
		state, token, retry := reply[0], reply[2], time.Duration(reply[4].(int64))*time.Millisecond
		if state == "MISS" {
			return fill(ctx, own, key, token, load)
		}
		if state != "BUSY" { // HIT, STALE or ABSENT
			if token != nil {
				go fill(context.Background(), cache, key, token, load)
			}
			if value, there := reply[1].(string); there {
				return []byte(value), nil
			}
			return nil, nil
		}
		if left = time.Until(end); retry > left {
			retry = left
		}
		time.Sleep(retry)
	}
	return load(ctx) // and do not store
}

func fill(ctx context.Context, own conn, key string, token any, load Load) ([]byte, error) {
	value, err := load(ctx)
	switch {
	case err != nil && ctx.Err() != nil: // the caller gave up; the origin is fine
		send(own, "SMARTCACHE.UNLOCK", key, token)
	case err != nil:
		send(own, "SMARTCACHE.UNLOCK", key, token, "BACKOFF", "1s")
	case value == nil:
		send(own, "SMARTCACHE.ABSENT", key, "TTL", "30s", "TOKEN", token)
	default:
		send(own, "SMARTCACHE.SET", key, value, "TTL", "5m", "SWR", "1m", "TOKEN", token)
	}
	return value, err
}

func send(own conn, words ...any) {
	ctx := context.Background()
	own.Process(ctx, redis.NewCmd(ctx, words...)) // if it fails: the caller has its value, the lease ends by itself
}
