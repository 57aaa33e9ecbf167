// A program that makes the Go runtime work: maps, goroutines, garbage, sorting,
// interfaces, panics. With an argument other than "test" it does more of it.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

type shape interface{ area() float64 }

type square struct{ Side float64 }

type circle struct{ Radius float64 }

func (s square) area() float64 { return s.Side * s.Side }

func (c circle) area() float64 { return 3 * c.Radius * c.Radius }

func recovered(n int) (message string) {
	defer func() { message = fmt.Sprint(recover()) }()
	var list []int
	return strconv.Itoa(list[n])
}

func round(n int) string {
	words := map[string]int{}
	for i := range 2000 {
		words[strings.Repeat(strconv.Itoa(i%97), 1+i%3)] += i * n
	}
	keys := make([]string, 0, len(words))
	for k := range words {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var total float64
	for i, s := range []shape{square{2}, circle{3}, square{5}} {
		total += s.area() * float64(i+n)
	}
	text, err := json.Marshal(map[string]any{"keys": keys[:5], "total": total, "words": words[keys[7]]})
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s %x %s", text, sha256.Sum256([]byte(strings.Join(keys, ","))), recovered(n))
}

func main() {
	rounds := 3
	if len(os.Args) > 1 && os.Args[1] != "test" {
		rounds, _ = strconv.Atoi(os.Args[1])
	}
	var wait sync.WaitGroup
	results := make([]string, rounds)
	for i := range results {
		wait.Go(func() { results[i] = round(i) })
	}
	wait.Wait()
	fmt.Println(results[0], results[rounds-1])
	os.Exit(3)
}
