package enroll

import "time"

// SetBodyTimeout is for a test that would wait for it; before the first request.
func (s *Server) SetBodyTimeout(d time.Duration) { s.bodyTimeout = d }
