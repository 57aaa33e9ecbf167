// Command echo shows what a program is given: arguments, environment, standard
// input, a directory, and an exit code.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

func main() {
	switch verb, rest := os.Args[1], os.Args[2:]; verb {
	case "args":
		fmt.Println(strings.Join(rest, " "))
	case "env":
		fmt.Println(os.Getenv(rest[0]))
	case "stdin":
		b, err := io.ReadAll(os.Stdin)
		check(err)
		fmt.Printf("%d bytes\n", len(b))
	case "cat":
		b, err := os.ReadFile(rest[0])
		check(err)
		os.Stdout.Write(b)
	case "write":
		check(os.WriteFile(rest[0], []byte(rest[1]), 0o644))
	case "list":
		entries, err := os.ReadDir(rest[0])
		check(err)
		for _, e := range entries {
			fmt.Println(e.Name(), e.IsDir())
		}
	case "exit":
		n, err := strconv.Atoi(rest[0])
		check(err)
		os.Exit(n)
	case "panic":
		panic(rest[0])
	case "grow":
		var keep [][]byte
		for {
			keep = append(keep, make([]byte, 1<<20))
			keep[len(keep)-1][0] = 1
		}
	case "park":
		io.ReadAll(os.Stdin)
	case "trap":
		dive(0)
	case "stderr":
		fmt.Fprintln(os.Stderr, rest[0])
	}
}

// dive overflows the stack of the machine below Go's, which Go cannot catch.
//
//go:noinline
func dive(n int) int {
	if n == 50 {
		trap()
	}
	return dive(n+1) + 1
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
