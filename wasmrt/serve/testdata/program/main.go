// Program is a CGI program in Go.
package main

import (
	"fmt"
	"io"
	"os"
)

var count int

func main() {
	count++
	switch os.Getenv("PATH_INFO") {
	case "/fail":
		os.Exit(3)
	case "/silent":
		return
	case "/panic":
		panic("as it was asked")
	}
	fmt.Print("Status: 201 Made\r\nContent-Type: text/plain\r\nX-Method: ", os.Getenv("REQUEST_METHOD"), "\r\n\r\n")
	fmt.Printf("count=%d query=%s agent=%s body=", count, os.Getenv("QUERY_STRING"), os.Getenv("HTTP_X_AGENT"))
	io.Copy(os.Stdout, os.Stdin)
}
