package sim

import (
	"strings"
	"testing"
	"time"
)

// history is a ledger, a listing and hosts that agree; tests then break one thing.
type history struct {
	ledger      *Ledger
	listed      listing
	controllers map[string]inspected
}

func second(n int) time.Time { return time.Unix(1000+int64(n), 0) }

func joinOf(token uint64, mc string, started int) Join {
	return Join{Key: standup, Token: token, MC: mc, MHs: []string{"mh-1", "mh-2"}, Started: second(started), Acked: second(started + 1)}
}

// goodHistory: token 5 was joined twice and ended, token 7 is live at mc-2.
func goodHistory() *history {
	mhs := []string{"mh-1", "mh-2"}
	h := &history{
		ledger: NewLedger(),
		listed: listing{standup: {5: {mc: "mc-1", mhs: mhs, ended: true}, 7: {mc: "mc-2", mhs: mhs}}},
		controllers: map[string]inspected{
			"mc-1": {hosted: map[Key]Hosted{}, undisturbed: true},
			"mc-2": {hosted: map[Key]Hosted{standup: {Token: 7, MHs: mhs}}, undisturbed: true},
		},
	}
	h.ledger.Joined(joinOf(5, "mc-1", 0))
	h.ledger.Joined(joinOf(5, "mc-1", 2))
	h.ledger.Ended(standup, 5, second(4))
	h.ledger.Joined(joinOf(7, "mc-2", 5))
	return h
}

func (h *history) judge() *Verdict { return h.ledger.judge(h.listed, h.controllers) }

func TestGoodHistoryPasses(t *testing.T) {
	v := goodHistory().judge()
	if !v.OK() {
		t.Fatalf("accused without cause:\n%s", v)
	}
	if v.Joins != 3 || v.Acknowledged != 2 || v.Live != 1 || v.Ended != 1 || v.Superseded != 0 || v.Hosted != 1 {
		t.Errorf("counts: %+v", *v)
	}
}

func TestVerdictCatchesEachViolation(t *testing.T) {
	for name, test := range map[string]struct {
		break_  func(*history)
		finding func(*Verdict) Finding
	}{
		"missing": {
			func(h *history) { delete(h.listed[standup], 5) },
			func(v *Verdict) Finding { return v.Missing }},
		"listed with another controller": {
			func(h *history) {
				h.listed[standup][5] = listedAssignment{mc: "mc-9", mhs: []string{"mh-1", "mh-2"}, ended: true}
			},
			func(v *Verdict) Finding { return v.Altered }},
		"listed with other media handlers": {
			func(h *history) {
				h.listed[standup][5] = listedAssignment{mc: "mc-1", mhs: []string{"mh-1", "mh-3"}, ended: true}
			},
			func(v *Verdict) Finding { return v.Altered }},
		"answered with other media handlers": {
			func(h *history) { j := joinOf(7, "mc-2", 9); j.MHs = []string{"mh-2", "mh-1"}; h.ledger.Joined(j) },
			func(v *Verdict) Finding { return v.Altered }},
		"controller was told other media handlers": {
			func(h *history) { h.controllers["mc-2"].hosted[standup] = Hosted{Token: 7, MHs: []string{"mh-4"}} },
			func(v *Verdict) Finding { return v.Altered }},
		"ended though nobody ended it": {
			func(h *history) {
				h.listed[standup][7] = listedAssignment{mc: "mc-2", mhs: []string{"mh-1", "mh-2"}, ended: true}
				delete(h.controllers["mc-2"].hosted, standup)
			},
			func(v *Verdict) Finding { return v.Lost }},
		"assigned anew without cause": {
			func(h *history) { h.ledger.meetings[standup].grants[5].endedAt = time.Time{} },
			func(v *Verdict) Finding { return v.Displaced }},
		"live after an acknowledged end": {
			func(h *history) { h.ledger.Ended(standup, 7, second(9)) },
			func(v *Verdict) Finding { return v.Undead }},
		"two controllers under one token": {
			func(h *history) { h.ledger.Joined(joinOf(7, "mc-3", 6)) },
			func(v *Verdict) Finding { return v.Split }},
		"live twice": {
			func(h *history) {
				h.listed[standup][6] = listedAssignment{mc: "mc-1"}
			},
			func(v *Verdict) Finding { return v.ListedTwice }},
		"a lower token after a higher one was known": {
			func(h *history) {
				h.ledger.meetings[standup].grants[5].endedAt = time.Time{}
				h.ledger.EndUnknown(standup, 5)
				h.ledger.Joined(joinOf(5, "mc-1", 7))
			},
			func(v *Verdict) Finding { return v.Disordered }},
		"an answer after its acknowledged end": {
			func(h *history) {
				delete(h.ledger.meetings[standup].grants, 7)
				h.ledger.Joined(joinOf(5, "mc-1", 5))
			},
			func(v *Verdict) Finding { return v.Disordered }},
		"zombie": {
			func(h *history) { h.controllers["mc-1"].hosted[Key{"retro", "eu"}] = Hosted{Token: 9} },
			func(v *Verdict) Finding { return v.Zombies }},
		"live but not hosted": {
			func(h *history) { delete(h.controllers["mc-2"].hosted, standup) },
			func(v *Verdict) Finding { return v.NotHosted }},
		"called stale": {
			func(h *history) { h.ledger.accuse("mh-1", "stale"); h.ledger.accuse("mh-1", "stale") },
			func(v *Verdict) Finding { return v.FalselyStale }},
	} {
		t.Run(name, func(t *testing.T) {
			h := goodHistory()
			test.break_(h)
			v := h.judge()
			if v.OK() {
				t.Fatal("passed")
			}
			if got := test.finding(v); got.Count != 1 || len(got.Examples) != 1 {
				t.Errorf("finding %+v, want exactly one; the verdict:\n%s", got, v)
			}
			total := 0
			for _, line := range v.lines() {
				total += line.finding.Count
			}
			if total != 1 {
				t.Errorf("%d violations, want this one alone:\n%s", total, v)
			}
		})
	}
}

func TestHostedTwice(t *testing.T) {
	h := goodHistory()
	h.controllers["mc-1"].hosted[standup] = Hosted{Token: 5, MHs: []string{"mh-1", "mh-2"}}
	v := h.judge()
	// The second host is also a zombie: the cluster has the meeting elsewhere.
	if v.HostedTwice.Count != 1 || v.Zombies.Count != 1 {
		t.Errorf("verdict:\n%s", v)
	}
}

func TestVerdictForgivesWhatItCannotKnow(t *testing.T) {
	for name, excuse := range map[string]func(*history){
		"an end with unknown outcome that happened": func(h *history) {
			h.ledger.EndUnknown(standup, 7)
			h.listed[standup][7] = listedAssignment{mc: "mc-2", mhs: []string{"mh-1", "mh-2"}, ended: true}
			delete(h.controllers["mc-2"].hosted, standup)
		},
		"an end with unknown outcome that did not": func(h *history) { h.ledger.EndUnknown(standup, 7) },
		"an end of whichever was live": func(h *history) {
			h.ledger.Ended(standup, 0, second(9))
			h.listed[standup][7] = listedAssignment{mc: "mc-2", mhs: []string{"mh-1", "mh-2"}, ended: true}
			delete(h.controllers["mc-2"].hosted, standup)
		},
		"assigned anew because its controller failed": func(h *history) {
			h.ledger.meetings[standup].grants[5].endedAt = time.Time{}
			h.controllers["mc-1"] = inspected{}
		},
		"a controller that forgot what it hosted": func(h *history) { h.controllers["mc-2"] = inspected{forgot: true} },
		"a lower token to a call that began before": func(h *history) {
			h.ledger.meetings[standup].grants[5].endedAt = second(7)
			h.ledger.Joined(joinOf(5, "mc-1", 6)) // began when token 7 came back, not after
		},
	} {
		h := goodHistory()
		excuse(h)
		if v := h.judge(); !v.OK() {
			t.Errorf("%s:\n%s", name, v)
		}
	}
}

func TestVerdictReadsWell(t *testing.T) {
	v := &Verdict{Acknowledged: 12345}
	for i := range 12 {
		v.Missing.add("example %d", i)
	}
	text := v.String()
	for _, want := range []string{"acknowledged assignments missing", "12 of 12 345\n", "example 9\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "example 10") {
		t.Error("more than ten examples")
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %q", n, got)
		}
	}
}

func TestJournalForgetsTheOldest(t *testing.T) {
	j := newJournal(10)
	for i := range 25 {
		j.record(Event{Kind: EventAssign, Outcome: OutcomeAccepted, Token: uint64(i)})
	}
	events := j.copy()
	if len(events) > 10 || events[len(events)-1].Token != 24 {
		t.Errorf("%d events, the last of token %d", len(events), events[len(events)-1].Token)
	}
	for i := 1; i < len(events); i++ {
		if events[i].Token != events[i-1].Token+1 {
			t.Error("events out of order")
		}
	}
	if j.count(EventAssign, "") != 25 || j.count(EventAssign, OutcomeAccepted) != 25 {
		t.Error("counters forgot")
	}
}
