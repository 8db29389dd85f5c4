package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribeBuild(t *testing.T) {
	t.Parallel()
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	recorded := &debug.BuildInfo{
		Main:     debug.Module{Version: "v1.1.0"},
		Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "false")},
	}
	dirty := &debug.BuildInfo{
		Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "true")},
	}
	tests := []struct {
		name                string
		version, commit     string
		recorded            *debug.BuildInfo
		wantVersion, wantID string
	}{
		{"linker wins", "v2.0.0", "def", recorded, "v2.0.0", "def"},
		{"recorded by go install", "", "", recorded, "v1.1.0", "abc"},
		{"changed work tree", "", "", dirty, "(devel)", "abc-dirty"},
		{"only modified is recorded", "", "", &debug.BuildInfo{Settings: dirty.Settings[1:]}, "(devel)", "unknown"},
		{"nothing is known", "", "", nil, "(devel)", "unknown"},
	}
	for _, test := range tests {
		want := buildInfo{Version: test.wantVersion, Commit: test.wantID, GoVersion: runtime.Version()}
		if got := describeBuild(test.version, test.commit, test.recorded); got != want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, want)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	table := execute(t, "version")
	if table.code != exitDone || !strings.HasPrefix(table.stdout, "conclave  "+buildVersion()+"\n") || !strings.Contains(table.stdout, runtime.Version()) {
		t.Errorf("got %+v", table)
	}
	var build buildInfo
	if err := json.Unmarshal([]byte(execute(t, "version", "-o", "json").stdout), &build); err != nil {
		t.Fatal(err)
	}
	if build != readBuild() {
		t.Errorf("JSON says %+v, want %+v", build, readBuild())
	}
}
