package volume

import (
	"io"
	"os"
	"strconv"
)

// pin names a directory so that the name leads to it, and to nothing else, as
// long as the closer is open: by its descriptor.
func pin(root *os.Root, sub string) (string, io.Closer, error) {
	dir, err := root.Open(sub)
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())), dir, nil
}
