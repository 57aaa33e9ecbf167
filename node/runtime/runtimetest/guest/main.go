// Command guest is the program that the runtime suite runs: its first argument
// says what it does. Built with GOOS=wasip1 GOARCH=wasm it is an image for a
// WebAssembly runtime.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	switch args[0] {
	case "print":
		fmt.Println(os.Getenv("GREETING"), strings.Join(args[1:], ","))
		fmt.Fprintln(os.Stderr, "done")
		return 0
	case "fail":
		return 3
	case "serve":
		return serve()
	case "stubborn":
		for n := 0; ; n++ {
			if n < 0 {
				return n
			}
		}
	case "copy":
		return copyFile(args[1], args[2])
	}
	fmt.Fprintln(os.Stderr, "no such command:", args[0])
	return 2
}

// serve answers on the listener that the runtime opened, until it closes.
func serve() int {
	const first = 3 // descriptor of the LISTEN_FDS convention
	ln, err := net.FileListener(os.NewFile(first, "listener"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "served by "+os.Getenv("LISTEN_FDNAMES"))
	})}
	_ = srv.Serve(ln)
	_ = srv.Shutdown(context.Background())
	return 0
}

func copyFile(from, to string) int {
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
