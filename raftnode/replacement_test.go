package raftnode

import (
	"testing"

	"github.com/hashicorp/raft"
)

func voter(id raft.ServerID) raft.Server {
	return raft.Server{ID: id, Address: serverAddress(id, "host:1"), Suffrage: raft.Voter}
}

func nonvoter(id raft.ServerID) raft.Server {
	s := voter(id)
	s.Suffrage = raft.Nonvoter
	return s
}

// What the leader does about data folders that come and go, one step at a time.
func TestNextChange(t *testing.T) {
	here, gone := outlook{presence: present}, outlook{presence: absent}
	behind, ready := here, outlook{present, true}
	for _, tc := range []struct {
		name       string
		servers    []raft.Server
		applicants []raft.Server
		look       map[raft.ServerID]outlook // the others are unclear
		want       change
	}{
		{name: "everybody is there", servers: []raft.Server{voter("a.1"), voter("b.1"), voter("c.1")},
			look: map[raft.ServerID]outlook{"a.1": ready, "b.1": ready, "c.1": ready}},
		{name: "one is gone, and nobody comes in its place", servers: []raft.Server{voter("a.1"), voter("b.1"), voter("c.1")},
			look: map[raft.ServerID]outlook{"a.1": ready, "b.1": gone, "c.1": ready}},
		{name: "a new folder in place of one that is gone", servers: []raft.Server{voter("a.1"), voter("b.1"), voter("c.1")},
			applicants: []raft.Server{voter("b.2")}, look: map[raft.ServerID]outlook{"b.1": gone}, want: change{admit, voter("b.2")}},
		{name: "in place of a folder without an instance", servers: []raft.Server{voter("a"), voter("b")},
			applicants: []raft.Server{voter("b.2")}, look: map[raft.ServerID]outlook{"b": gone}, want: change{admit, voter("b.2")}},
		{name: "a second process of the same name", servers: []raft.Server{voter("a.1"), voter("b.1"), voter("c.1")},
			applicants: []raft.Server{voter("b.2")}, look: map[raft.ServerID]outlook{"b.1": here}},
		{name: "the leader has not looked for long enough", servers: []raft.Server{voter("a.1"), voter("b.1"), voter("c.1")},
			applicants: []raft.Server{voter("b.2")}},
		{name: "a stranger", servers: []raft.Server{voter("a.1"), voter("b.1")},
			applicants: []raft.Server{voter("x.1")}, look: map[raft.ServerID]outlook{"b.1": gone}},
		{name: "it is in already", servers: []raft.Server{voter("a.1"), voter("b.1"), nonvoter("b.2")},
			applicants: []raft.Server{voter("b.2")}, look: map[raft.ServerID]outlook{"b.1": gone, "b.2": behind}},
		{name: "it has caught up: the old one goes first", servers: []raft.Server{voter("a.1"), voter("b.1"), nonvoter("b.2")},
			look: map[raft.ServerID]outlook{"b.1": gone, "b.2": ready}, want: change{remove, voter("b.1")}},
		{name: "it has caught up, and the old one answers", servers: []raft.Server{voter("a.1"), voter("b.1"), nonvoter("b.2")},
			look: map[raft.ServerID]outlook{"b.1": here, "b.2": ready}},
		{name: "the old one is out", servers: []raft.Server{voter("a.1"), nonvoter("b.2")},
			look: map[raft.ServerID]outlook{"b.2": ready}, want: change{promote, nonvoter("b.2")}},
		{name: "the old one is out, the new one behind", servers: []raft.Server{voter("a.1"), nonvoter("b.2")},
			look: map[raft.ServerID]outlook{"b.2": behind}},
		{name: "the old one has come back instead", servers: []raft.Server{voter("a.1"), voter("b.1"), nonvoter("b.2")},
			look: map[raft.ServerID]outlook{"b.1": here, "b.2": gone}, want: change{remove, nonvoter("b.2")}},
		{name: "lost again while it caught up", servers: []raft.Server{voter("a.1"), voter("b.1"), nonvoter("b.2")},
			applicants: []raft.Server{voter("b.3")}, look: map[raft.ServerID]outlook{"b.1": gone, "b.2": gone},
			want: change{remove, nonvoter("b.2")}},
		{name: "both of its folders are gone, and the voter is left", servers: []raft.Server{voter("a.1"), voter("b.1")},
			applicants: []raft.Server{voter("b.3")}, look: map[raft.ServerID]outlook{"b.1": gone}, want: change{admit, voter("b.3")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := nextChange(tc.servers, tc.applicants, func(id raft.ServerID) outlook { return tc.look[id] })
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// A first configuration is written by one replica, and only when no other one has a past.
func TestFounders(t *testing.T) {
	self := identity{NodeID: "a", Instance: "1"}
	three := []Server{{"c", "host:3"}, {"a", "host:1"}, {"b", "host:2"}}
	isNew := func(id raft.ServerID) report {
		return report{nodeID: nodeOf(id), answer: answer{From: id, Standing: standingNew}}
	}
	inCluster := report{nodeID: "c", answer: answer{From: "c.1", Joined: true, Standing: standingWaiting}}
	silent := report{nodeID: "c", answer: answer{Standing: standingNew}, err: errClosed}
	refusing := report{nodeID: "c", answer: answer{From: "c.1", Standing: standingRefused}}
	for _, tc := range []struct {
		name    string
		self    identity
		initial []Server
		reports []report
		founds  bool
	}{
		{"alone", self, []Server{{"a", "host:1"}}, nil, true},
		{"alone by default", self, nil, nil, true},
		{"all are new", self, three, []report{isNew("b.1"), isNew("c.1")}, true},
		{"all are new, but another one is first", identity{NodeID: "b", Instance: "1"}, three, []report{isNew("a.1"), isNew("c.1")}, false},
		{"a majority is new, one is silent", self, three, []report{isNew("b.1"), silent}, false},
		{"a majority is new, one was not asked", self, three, []report{isNew("b.1")}, false},
		{"a majority is new, one has a past", self, three, []report{isNew("b.1"), inCluster}, false},
		{"one has another initial cluster", self, three, []report{isNew("b.1"), refusing}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			servers, founds := founders(tc.self, &Config{NodeID: tc.self.NodeID, RaftAdvertise: "host:1", InitialCluster: tc.initial}, tc.reports)
			if founds != tc.founds {
				t.Fatalf("founds: %v, want %v", founds, tc.founds)
			}
			if len(tc.reports) == 2 && founds {
				want := [3]raft.Server{{ID: "c.1", Address: "c.1@host:3"}, {ID: "a.1", Address: "a.1@host:1"}, {ID: "b.1", Address: "b.1@host:2"}}
				if [3]raft.Server(servers) != want {
					t.Errorf("the first configuration is %v, want %v", servers, want)
				}
			}
		})
	}
}
