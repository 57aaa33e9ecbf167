package apiserver

import (
	"fmt"
	"runtime/debug"
	"strings"

	apimachineryversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"
	componentversion "k8s.io/component-base/version"
)

// stamped is the version of Kubernetes whose API we speak, with our own version
// in the build metadata: kubectl compares the former, people read the latter.
type stamped struct {
	compatibility.EffectiveVersion
	info apimachineryversion.Info
}

func (s stamped) Info() *apimachineryversion.Info {
	info := s.info
	return &info
}

// newVersion stamps our version ("" = that of the build) on the Kubernetes
// version that we were built with.
func newVersion(own string) stamped {
	effective := compatibility.NewEffectiveVersionFromString(componentversion.DefaultKubeBinaryVersion, "", "")
	build, _ := debug.ReadBuildInfo()
	info := *effective.Info()
	info.GitVersion = gitVersion(build, own)
	info.GitCommit, info.GitTreeState, info.BuildDate = "", "", ""
	if build != nil {
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				info.GitCommit = s.Value
			case "vcs.time":
				info.BuildDate = s.Value
			case "vcs.modified":
				info.GitTreeState = map[string]string{"true": "dirty", "false": "clean"}[s.Value]
			}
		}
	}
	return stamped{EffectiveVersion: effective, info: info}
}

// gitVersion gives v1.37.2+copepod-0.1.0: a semantic version.
func gitVersion(build *debug.BuildInfo, own string) string {
	kube := "v" + componentversion.DefaultKubeBinaryVersion + ".0"
	if build != nil {
		for _, dep := range build.Deps {
			if rest, ok := strings.CutPrefix(dep.Version, "v0."); ok && dep.Path == "k8s.io/apiserver" {
				kube = "v1." + rest
			}
		}
		if own == "" {
			own = build.Main.Version
		}
	}
	own = strings.Map(metadataRune, strings.TrimPrefix(own, "v"))
	if own == "" || own == "-devel-" {
		own = "devel"
	}
	return fmt.Sprintf("%s+copepod-%s", kube, own)
}

// metadataRune keeps what semantic versions allow in build metadata.
func metadataRune(r rune) rune {
	switch {
	case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '-':
		return r
	}
	return '-'
}
