package memory

import (
	"slices"
	"testing"
)

func TestBothWaysToAskForThePagesThatWereWrittenGiveTheSame(t *testing.T) {
	first := New(0)
	defer first.Free()
	content := first.Allocate(0, 16<<20).Reallocate(8 << 20)
	for i := range content {
		content[i] = byte(i >> 12)
	}
	image, err := first.Image()
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if image.content.pagemap == nil {
		t.Skip("this system shows no page map")
	}
	a := New(0)
	defer a.Free()
	b := a.Allocate(0, 16<<20).Reallocate(8 << 20)
	if err := a.Adopt(image); err != nil {
		t.Fatal(err)
	}
	pages := func(walk func([]byte, func(start, end int)) error) (list []int) {
		if err := walk(b, func(start, end int) {
			for at := start; at < end; at += systemPage {
				list = append(list, at/systemPage)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	want := []int{}
	for page := 0; page < len(b)/systemPage; page += 2 { // more ranges than one scan returns
		_ = b[page*systemPage+systemPage-1] // reading is not writing
		if page%6 == 0 {
			b[page*systemPage] = 1
			want = append(want, page)
		}
	}
	if got := pages(image.content.read); !slices.Equal(got, want) {
		t.Errorf("read: got %v, want %v", got, want)
	}
	if got := pages(image.content.walk); !slices.Equal(got, want) {
		t.Errorf("walk: got %v, want %v", got, want)
	}
}
