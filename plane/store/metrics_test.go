package store_test

import (
	"strings"
	"testing"

	"copepod/plane/store"
	"copepod/plane/store/storetest"

	"github.com/prometheus/client_golang/prometheus"
)

func TestMetricsTellWhatHappened(t *testing.T) {
	reg := prometheus.NewRegistry()
	for life := range 2 { // the second registers again
		st, stop := storetest.Start(t, store.Config{Registerer: reg})
		storetest.WaitReady(t, st)
		absent := store.Op{Kind: store.Put, Key: "a", Expect: store.Absent}
		st.Txn(t.Context(), absent)
		st.Txn(t.Context(), absent)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			if !strings.HasPrefix(f.GetName(), "copepod_store_") || f.GetHelp() == "" {
				t.Errorf("got metric %q with help %q, want our prefix and a help", f.GetName(), f.GetHelp())
			}
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		for name, want := range map[string]float64{
			"copepod_store_txns_total applied":  1,
			"copepod_store_txns_total conflict": 1,
			"copepod_store_revision":            1,
			"copepod_store_keys":                1,
			"copepod_store_leading":             1,
			"copepod_store_healthy":             1,
			"copepod_store_commit_seconds":      2,
		} {
			if got[name] != want {
				t.Errorf("life %d: %s: got %v, want %v", life, name, got[name], want)
			}
		}
		stop()
	}
	if families, err := reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("got %d metrics, %v of a store that stopped, want none", len(families), err)
	}
}

func TestConfigThatCannotBeIsRefused(t *testing.T) {
	network := storetest.NewNetwork()
	for name, cfg := range map[string]store.Config{
		"peers and join":         {Join: true, Peers: []store.Peer{{ID: "a"}}, Transport: network.Join("a")},
		"peers without a way":    {NodeID: "a", Peers: []store.Peer{{ID: "a"}, {ID: "b"}}},
		"join without a way":     {Join: true},
		"not among its peers":    {NodeID: "c", Peers: []store.Peer{{ID: "a"}, {ID: "b"}}, Transport: network.Join("c")},
		"negative history":       {HistoryBytes: -1},
		"negative history age":   {HistoryAge: -1},
		"negative length of log": {LogBytes: -1},
	} {
		if _, err := store.Open(cfg); err == nil || !strings.HasPrefix(err.Error(), "store: config: ") {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
}
