//go:build wasip1

// Hello is an HTTP server as Go programs write them, on the socket that its pod
// was given: file descriptor 3, as LISTEN_FDS of sd_listen_fds(3) says.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	socket, err := net.FileListener(os.NewFile(3, "http"))
	if err != nil {
		log.Fatalf("no socket to listen on: %v (does the container declare a port?)", err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s", r.Method, r.URL.Path)
		fmt.Fprintf(w, "Hello from %s!\n", os.Getenv("HOSTNAME"))
	})
	log.Printf("listening on %s", socket.Addr())
	log.Fatal(http.Serve(socket, nil))
}
