package record

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/looptest"
)

func on(name string) corev1.ObjectReference {
	return corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "default", Name: name, UID: "u"}
}

func recorder(t *testing.T, a *looptest.API) *Recorder {
	r := New(Config{Client: a, Component: "tester"})
	looptest.Start(t, r.Run)
	return r
}

func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func TestEventThatRepeatsRaisesTheCountOfTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		r := recorder(t, a)
		begin := time.Now()
		for range 3 {
			r.Event(on("p"), corev1.EventTypeWarning, "BackOff", "again %d", 1)
		}
		settle()
		r.Event(on("p"), corev1.EventTypeWarning, "BackOff", "again %d", 1)
		settle()
		list := looptest.List[*corev1.Event](a, "default")
		if len(list) != 1 {
			t.Fatalf("got %d events, want 1", len(list))
		}
		e := list[0]
		if e.Count != 4 || !e.FirstTimestamp.Time.Equal(begin) || !e.LastTimestamp.Time.Equal(begin.Add(time.Second)) {
			t.Errorf("got count %d from %v to %v", e.Count, e.FirstTimestamp, e.LastTimestamp)
		}
		if e.Source.Component != "tester" || e.ReportingController != "tester" || e.InvolvedObject.Name != "p" || !strings.HasPrefix(e.Name, "p.") {
			t.Errorf("got %+v", e)
		}
	})
}

func TestBurstOfEventsIsOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		r := recorder(t, a)
		for i := range 300 {
			r.Event(on(fmt.Sprint("p", i)), corev1.EventTypeNormal, "Scheduled", "placed")
		}
		settle()
		if n := len(looptest.List[*corev1.Event](a, "default")); n != 300 || a.Entries() != 1 {
			t.Errorf("got %d events in %d writes, want 300 in 1", n, a.Entries())
		}
	})
}

func TestManySimilarEventsAreCombined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		r := recorder(t, a)
		for i := range 20 {
			r.Event(on("rs"), corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: p%02d", i)
		}
		settle()
		said := looptest.Said(a, "rs")
		slices.Sort(said)
		if len(said) != 11 || said[0] != "Normal SuccessfulCreate (combined from similar events): Created pod: p19" {
			t.Errorf("got %d events, the first %q, want ten and a combined one", len(said), said[0])
		}
	})
}

func TestObjectThatFloodsIsCutOffAndHeardAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		r := recorder(t, a)
		total := func() (n int32) {
			settle()
			for _, e := range looptest.List[*corev1.Event](a, "default") {
				n += e.Count
			}
			return n
		}
		for i := range 1000 {
			r.Event(on("p"), corev1.EventTypeNormal, fmt.Sprint("Reason", i), "text")
		}
		if got := total(); got != floodBurst {
			t.Errorf("got %d events of a flood, want %d", got, floodBurst)
		}
		r.Event(on("quiet"), corev1.EventTypeNormal, "Reason", "text")
		time.Sleep(floodRefill)
		r.Event(on("p"), corev1.EventTypeNormal, "Later", "text")
		if got := total(); got != floodBurst+2 {
			t.Errorf("got %d events, want the quiet object's and one more", got)
		}
	})
}

func TestExpiredEventIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		r := recorder(t, a)
		r.Event(on("p"), corev1.EventTypeNormal, "R", "text")
		settle()
		a.Delete(t.Context(), api.Events, "default", looptest.List[*corev1.Event](a, "default")[0].Name, metav1.DeleteOptions{})
		r.Event(on("p"), corev1.EventTypeNormal, "R", "text")
		settle()
		if list := looptest.List[*corev1.Event](a, "default"); len(list) != 1 || list[0].Count != 2 {
			t.Errorf("got %v, want one event of count 2", list)
		}
	})
}

func TestEventOnAClusterObjectLivesInDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		recorder(t, a).Event(corev1.ObjectReference{Kind: "Node", Name: "n"}, corev1.EventTypeNormal, "R", "%s", strings.Repeat("x", 2000))
		settle()
		list := looptest.List[*corev1.Event](a, "default")
		if len(list) != 1 || list[0].InvolvedObject.Namespace != "" || len(list[0].Message) != messageLimit {
			t.Errorf("got %d events, want one of %d bytes", len(list), messageLimit)
		}
	})
}

func TestRecorderThatIsFullDropsAndCounts(t *testing.T) {
	dropped := 0
	r := New(Config{Client: looptest.New(), Component: "tester", Queue: 2, Dropped: func() { dropped++ }})
	for range 5 {
		r.Event(on("p"), corev1.EventTypeNormal, "R", "text")
	}
	if dropped != 3 {
		t.Errorf("got %d dropped, want 3", dropped)
	}
}

func TestRecentForgetsTheOldestOnly(t *testing.T) {
	var r recent[int]
	for i := range 3 * generation {
		r.put(fmt.Sprint(i), i)
		r.get("0")
	}
	if _, ok := r.get("0"); !ok {
		t.Error("got the key forgotten that was asked for all the time")
	}
	if _, ok := r.get("1"); ok {
		t.Error("got a key remembered that nobody asked for")
	}
	if n := len(r.young) + len(r.old); n > 2*generation {
		t.Errorf("got %d keys, want %d at most", n, 2*generation)
	}
}
