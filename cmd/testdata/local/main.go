// Command local does one thing that a guest can do, and tells what came of it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	verb, rest := os.Args[1], os.Args[2:]
	switch verb {
	case "args":
		fmt.Println(strings.Join(os.Args, "|"))
	case "env":
		fmt.Println(strings.Join(os.Environ(), "|"))
	case "exit":
		code, err := strconv.Atoi(rest[0])
		check(err)
		os.Exit(code)
	case "shout": // a line at a time
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			fmt.Println(strings.ToUpper(lines.Text()))
		}
		fmt.Fprintln(os.Stderr, "done")
	case "read":
		text, err := os.ReadFile(rest[0])
		check(err)
		fmt.Print(string(text))
	case "write":
		check(os.WriteFile(rest[0], []byte(rest[1]), 0o644))
	case "loop":
		fmt.Println("ready")
		for {
		}
	case "hoard":
		var kept [][]byte
		for {
			b := make([]byte, 1<<20)
			b[0] = 1
			kept = append(kept, b)
		}
	case "serve":
		fmt.Println("LISTEN_FDS=" + os.Getenv("LISTEN_FDS"))
		serve()
	}
}

// serve answers with what it is sent, until it is asked to leave.
func serve() {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	check(err)
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	http.HandleFunc("/leave", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	check(http.Serve(l, nil))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
