package config

import (
	"fmt"
	"strconv"
	"strings"
)

// nearest is the known name with the smallest edit distance (Levenshtein 1966).
func nearest(name string, known []string) string {
	best, least := "", -1
	for _, k := range known {
		if d := distance(name, k); least < 0 || d < least {
			best, least = k, d
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// PortRange is a range of TCP ports, both ends in it.
type PortRange struct{ First, Last uint16 }

// ParsePortRange reads "30000-32767".
func ParsePortRange(s string) (PortRange, error) {
	first, last, ok := strings.Cut(s, "-")
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	if !ok || errA != nil || errB != nil || a == 0 || b < a {
		return PortRange{}, fmt.Errorf("want FIRST-LAST with 1 ≤ FIRST ≤ LAST ≤ 65535, as in 30000-32767")
	}
	return PortRange{uint16(a), uint16(b)}, nil
}
