package apiserver

import (
	"runtime/debug"
	"testing"
)

func TestVersionIsThatOfTheLibraryWithOursBehind(t *testing.T) {
	build := &debug.BuildInfo{Main: debug.Module{Version: "v0.2.0"}, Deps: []*debug.Module{{Path: "k8s.io/apiserver", Version: "v0.37.2"}}}
	devel := &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}
	for _, test := range []struct {
		name  string
		build *debug.BuildInfo
		own   string
		want  string
	}{
		{"of the build", build, "", "v1.37.2+copepod-0.2.0"},
		{"given", build, "v1.0.0-rc.1", "v1.37.2+copepod-1.0.0-rc.1"},
		{"not semantic", build, "main@abc/def", "v1.37.2+copepod-main-abc-def"},
		{"devel", devel, "", "v1.37.0+copepod-devel"},
		{"no build info", nil, "", "v1.37.0+copepod-devel"},
	} {
		if got := gitVersion(test.build, test.own); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}
