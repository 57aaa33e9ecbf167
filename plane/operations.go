package plane

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Paths of the API by which operators look after the store. They are for those
// whom RBAC gives these non-resource URLs: at first system:masters alone.
const (
	StatusPath = "/plane/status" // GET: a store.Status as JSON
	BackupPath = "/plane/backup" // GET: what store.Restore reads
)

// statusPatience bounds how long members are waited for that do not answer.
const statusPatience = 5 * time.Second

func (p *Plane) operations() map[string]http.Handler {
	return map[string]http.Handler{
		StatusPath: http.HandlerFunc(p.serveStatus),
		BackupPath: http.HandlerFunc(p.serveBackup),
	}
}

func (p *Plane) serveStatus(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), statusPatience)
	defer cancel()
	status, err := p.store.Status(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(status) // whoever went away is its own affair
}

// serveBackup streams. A backup that breaks off is noticed by whoever restores
// it: it ends with a checksum.
func (p *Plane) serveBackup(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	rev, err := p.store.Backup(r.Context(), w)
	if err != nil {
		p.log.Warn("backup broke off", "err", err)
		panic(http.ErrAbortHandler)
	}
	p.log.Info("backup written", "rev", rev)
}
