// Calls examples/leases/cache_aside.go as tests/server/examples.rs describes.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"callers/cache"
)

var loads int64
var errDown = errors.New("the origin is down")

func load(ms int, what string) ([]byte, error) {
	atomic.AddInt64(&loads, 1)
	time.Sleep(time.Duration(ms) * time.Millisecond)
	switch what {
	case "fail":
		return nil, errDown
	case "nothing":
		return nil, nil
	}
	return hex.DecodeString(what)
}

func call(key string, ms int, what string) string {
	value, err := cache.Cached(context.Background(), key, func(context.Context) ([]byte, error) { return load(ms, what) })
	switch {
	case err == errDown:
		return "failed"
	case err != nil:
		panic(err)
	case value == nil:
		return "nothing"
	}
	return hex.EncodeToString(value)
}

func read(key string, callers, ms int, what string) string {
	answers := make([]string, callers)
	var all sync.WaitGroup
	for i := range answers {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			answers[i] = call(key, ms, what)
		}(i)
		if callers <= 100 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	all.Wait()
	counts := map[string]int{}
	for _, answer := range answers {
		counts[answer]++
	}
	var results []string
	for answer, n := range counts {
		results = append(results, fmt.Sprintf("%s*%d", answer, n))
	}
	sort.Strings(results)
	return strings.Join(results, " ")
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if words[0] != "read" {
			fmt.Println(atomic.LoadInt64(&loads))
			continue
		}
		callers, _ := strconv.Atoi(words[2])
		ms, _ := strconv.Atoi(words[3])
		fmt.Println(read(words[1], callers, ms, words[4]))
	}
}
