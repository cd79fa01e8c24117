package app

import (
	"runtime/debug"

	"taskcluster/internal/api"
)

// release is the version of the published API that this program speaks, and its
// own.
const release = "0.1.0"

// Version describes this program: its release, and the commit that it was built
// from where the build knows it.
func Version() api.Version {
	v := api.Version{Version: release, Source: "", Build: "go"}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Build = info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	return v
}
