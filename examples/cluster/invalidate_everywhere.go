// REDIS_NODES=10.0.0.1:6379,10.0.0.2:6379 go run invalidate_everywhere.go SMARTCACHE.INVALIDATE TAGS 1 user:42
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// NotEverywhere says which primaries did not run it, by host:port, and why.
type NotEverywhere map[string]error

func (failed NotEverywhere) Error() string {
	var all []string
	for node, err := range failed {
		all = append(all, fmt.Sprintf("%s: %v", node, err))
	}
	return strings.Join(all, ", ")
}

func connect(nodes []string) *redis.ClusterClient {
	return redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: nodes, DialTimeout: time.Second, ReadTimeout: 2 * time.Second, MaxRetries: -1,
	})
}

// Everywhere returns the answer of each primary, by host:port. All are asked at once: one that hangs delays no other.
func Everywhere(
	ctx context.Context, cluster *redis.ClusterClient, words ...interface{},
) (map[string]interface{}, error) {
	var lock sync.Mutex
	replies, failed := map[string]interface{}{}, NotEverywhere{}
	// This first asks which nodes are primaries now. Its own error would be any one of theirs, without a name.
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		reply, err := node.Do(ctx, words...).Result()
		lock.Lock()
		defer lock.Unlock()
		if err != nil {
			failed[node.Options().Addr] = err
		} else {
			replies[node.Options().Addr] = reply
		}
		return nil
	})
	if err == nil && len(failed) > 0 {
		err = failed
	}
	return replies, err
}

func main() {
	cluster := connect(strings.Split(os.Getenv("REDIS_NODES"), ","))
	var words []interface{}
	for _, word := range os.Args[1:] {
		words = append(words, word)
	}
	replies, err := Everywhere(context.Background(), cluster, words...)
	for node, reply := range replies {
		fmt.Println(node, reply)
	}
	if failed, some := err.(NotEverywhere); some {
		for node, err := range failed {
			fmt.Fprintln(os.Stderr, node, "FAILED:", err)
		}
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil {
		os.Exit(1)
	}
}
