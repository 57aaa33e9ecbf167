//go:build unix

package wasmrt_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"copepod/wasmrt"
)

// contend runs guests of two weights, twice as many of each as there are
// processors, until they have used enough; it returns what each kind used.
func contend(t testing.TB, light, heavy int64, enough time.Duration) (l, h time.Duration) {
	t.Helper()
	host := newHost(t)
	m := load(t, host, spinning)
	var lights, heavies []*wasmrt.Instance
	for range 2 * runtime.GOMAXPROCS(0) {
		lights = append(lights, start(t, host, m, wasmrt.Program{CPUWeight: light}))
		heavies = append(heavies, start(t, host, m, wasmrt.Program{CPUWeight: heavy}))
	}
	for l+h < enough {
		time.Sleep(5 * time.Millisecond)
		l, h = used(lights), used(heavies)
	}
	for _, i := range append(lights, heavies...) {
		i.Kill()
		<-i.Done()
	}
	return l, h
}

func used(all []*wasmrt.Instance) (sum time.Duration) {
	for _, i := range all {
		sum += i.Stats().CPU
	}
	return sum
}

func TestGuestsShareTheProcessorByTheirWeights(t *testing.T) {
	l, h := contend(t, 100, 300, 1200*time.Millisecond)
	if ratio := float64(h) / float64(l); ratio < 2 || ratio > 4.5 {
		t.Errorf("weights of 1 to 3 gave %v and %v, 1 to %.2f; want about 1 to 3", l, h, ratio)
	}
}

func TestAGuestThatAskedForNothingStillRuns(t *testing.T) {
	if l, _ := contend(t, 0, 1000, 500*time.Millisecond); l == 0 {
		t.Error("it had nothing at all")
	}
}

// What guests get for their weights; ratio should be what the name says.
//
// go test -run '^$' -bench Weight -benchtime 1x ./wasmrt
func BenchmarkWeight(b *testing.B) {
	for _, heavy := range []int64{100, 300, 1000, 5000} {
		b.Run(fmt.Sprintf("1to%d", heavy/100), func(b *testing.B) {
			var l, h time.Duration
			for range b.N {
				l, h = contend(b, 100, heavy, 5*time.Second)
			}
			b.ReportMetric(float64(h)/float64(l), "ratio")
		})
	}
}

func TestALimitHoldsFromTheFirstMomentOn(t *testing.T) {
	h := newHost(t)
	m := load(t, h, spinning)
	for _, milli := range []int64{50, 200, 500} {
		began := time.Now()
		i := start(t, h, m, wasmrt.Program{CPUMilli: milli})
		rate := float64(milli) / 1000
		burst := time.Duration(rate * float64(100*time.Millisecond))
		for i.Stats().CPU < 3*burst {
			time.Sleep(time.Millisecond)
		}
		got := i.Stats().CPU
		// What a slice may be too long is little; more of it only shows on a machine that stalls.
		if most := burst + time.Duration(rate*float64(time.Since(began))) + 20*time.Millisecond; got > most {
			t.Errorf("%dm: used %v of %v, want %v at most", milli, got, time.Since(began), most)
		}
		i.Kill()
		<-i.Done()
	}
}

// How far from its limit a guest is that would use more: in the long run, not
// counting the burst that it begins with.
//
// go test -run '^$' -bench Quota -benchtime 1x ./wasmrt
func BenchmarkQuota(b *testing.B) {
	for _, milli := range []int64{20, 50, 100, 250, 500, 900} {
		b.Run(fmt.Sprintf("%dm", milli), func(b *testing.B) {
			h := newHost(b)
			m := load(b, h, spinning)
			var off float64
			for range b.N {
				i := start(b, h, m, wasmrt.Program{CPUMilli: milli})
				time.Sleep(500 * time.Millisecond)
				before, began, process := i.Stats().CPU, time.Now(), processTime(b)
				time.Sleep(4 * time.Second)
				share := float64(milli) / 1000 * float64(time.Since(began))
				off = 100 * (float64(i.Stats().CPU-before) - share) / share
				b.ReportMetric(100*(float64(processTime(b)-process)-share)/share, "%-off-by-the-kernel")
				i.Kill()
				<-i.Done()
			}
			b.ReportMetric(math.Abs(off), "%-off")
		})
	}
}

// How late others are while a hundred guests loop: a goroutine that sleeps for a
// millisecond at a time, and the collector.
//
// go test -run '^$' -bench Stall -benchtime 1x ./wasmrt
func BenchmarkStall(b *testing.B) {
	h := newHost(b)
	m := load(b, h, spinning)
	for range 100 {
		start(b, h, m, wasmrt.Program{})
	}
	for h.Stats().Instances < 100 {
		time.Sleep(time.Millisecond)
	}
	for range b.N {
		var late []time.Duration
		for began := time.Now(); time.Since(began) < 3*time.Second; {
			before := time.Now()
			time.Sleep(time.Millisecond)
			late = append(late, time.Since(before)-time.Millisecond)
		}
		slices.Sort(late)
		b.ReportMetric(ms(late[len(late)/2]), "ms-median")
		b.ReportMetric(ms(late[len(late)*99/100]), "ms-p99")
		b.ReportMetric(ms(late[len(late)-1]), "ms-worst")
		var gc time.Duration
		for range 20 {
			before := time.Now()
			runtime.GC()
			gc = max(gc, time.Since(before))
		}
		b.ReportMetric(ms(gc), "ms-worst-GC")
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
