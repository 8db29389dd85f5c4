package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// settlePeriod is how often a verdict looks again while orphans are still being released.
const settlePeriod = 500 * time.Millisecond

// Verdict says whether the cluster kept its word. Every Finding must be empty.
type Verdict struct {
	Joins        int // acknowledged answers
	Acknowledged int // different assignments among them
	Live         int // of those, live now
	Ended        int // of those, ended as the joiners asked
	Superseded   int // of those, ended and assigned anew without the joiners asking
	Hosted       int // meetings hosted by the fleet's controllers now
	Nodes        int // in the fleet

	Missing      Finding // acknowledged, but not in the cluster's list
	Altered      Finding // acknowledged, listed or hosted with another controller or other media handlers
	Lost         Finding // acknowledged, ended though nobody ended it, and not assigned anew
	Displaced    Finding // assigned anew although its controller gave no cause
	Undead       Finding // live although its end was acknowledged
	Split        Finding // acknowledged with two controllers under one token
	ListedTwice  Finding // live twice in the cluster's list
	Disordered   Finding // an answer older than one that was back before its call began
	HostedTwice  Finding // hosted by two controllers at the end
	Zombies      Finding // hosted where the cluster does not have it live
	NotHosted    Finding // live at a controller of the fleet that does not host it
	FalselyStale Finding // nodes called unhealthy while their reports were acknowledged
}

// OK tells that there is no violation.
func (v *Verdict) OK() bool {
	for _, line := range v.lines() {
		if line.finding.Count > 0 {
			return false
		}
	}
	return true
}

type verdictLine struct {
	label   string
	finding *Finding
	of      int
}

func (v *Verdict) lines() []verdictLine {
	return []verdictLine{
		{"acknowledged assignments missing", &v.Missing, v.Acknowledged},
		{"acknowledged assignments altered", &v.Altered, v.Acknowledged},
		{"ended though nobody ended them", &v.Lost, v.Acknowledged},
		{"assigned anew without cause", &v.Displaced, v.Acknowledged},
		{"live in spite of an acknowledged end", &v.Undead, v.Acknowledged},
		{"answered with two controllers", &v.Split, v.Acknowledged},
		{"listed live twice", &v.ListedTwice, v.Acknowledged},
		{"answers out of order", &v.Disordered, v.Joins},
		{"meetings hosted twice", &v.HostedTwice, v.Hosted},
		{"zombie meetings", &v.Zombies, v.Hosted},
		{"live but not hosted", &v.NotHosted, v.Live},
		{"nodes called stale while reporting", &v.FalselyStale, v.Nodes},
	}
}

// String lists every rule with its count, and examples below those that were broken.
func (v *Verdict) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s joins acknowledged: %s assignments, %s live, %s ended, %s assigned anew\n",
		grouped(v.Joins), grouped(v.Acknowledged), grouped(v.Live), grouped(v.Ended), grouped(v.Superseded))
	for _, line := range v.lines() {
		fmt.Fprintf(&out, "%-38s %s of %s\n", line.label, grouped(line.finding.Count), grouped(line.of))
		for _, example := range line.finding.Examples {
			fmt.Fprintf(&out, "    %s\n", example)
		}
	}
	return out.String()
}

// Verdict compares what was acknowledged with what the cluster lists and the fleet hosts. It is
// for the time when the joiners have stopped. Orphans go with the next comprehensive heartbeats,
// so what controllers host is looked at again until it is right or settle has passed; 0 looks
// once. fleet must still be running, since a controller that is down hosts nothing; it may be nil
// when it runs in other processes. An error means that the cluster could
// not be read.
func (l *Ledger) Verdict(ctx context.Context, cluster *Cluster, fleet *Fleet, settle time.Duration) (*Verdict, error) {
	if fleet == nil {
		fleet = &Fleet{}
	}
	deadline := time.Now().Add(settle)
	for {
		listed, err := readAssignments(ctx, cluster)
		if err != nil {
			return nil, fmt.Errorf("judging: %w", err)
		}
		v := l.judge(listed, inspect(fleet.controllers))
		v.Nodes = len(fleet.handlers) + len(fleet.controllers)
		settled := v.HostedTwice.Count+v.Zombies.Count+v.NotHosted.Count == 0
		if settled || !time.Now().Before(deadline) {
			return v, nil
		}
		if !pause(ctx, settlePeriod) {
			return v, nil
		}
	}
}

// listing is the cluster's list, ended assignments included.
type listing map[Key]map[uint64]listedAssignment

type listedAssignment struct {
	mc    string
	mhs   []string
	ended bool
}

func readAssignments(ctx context.Context, cluster *Cluster) (listing, error) {
	listed := make(listing)
	err := cluster.EachAssignment(ctx, conclavev1.Consistency_LINEARIZABLE, true, func(a *conclavev1.Assignment) {
		key := Key{Meeting: a.GetMeetingId(), Region: a.GetRegion()}
		if listed[key] == nil {
			listed[key] = make(map[uint64]listedAssignment, 1)
		}
		listed[key][a.GetFencingToken()] = listedAssignment{
			mc: a.GetMcId(), mhs: mhIDs(a.GetMhAssignments()), ended: a.GetEndedAt() != nil,
		}
	})
	return listed, err
}

// inspected is what one controller of the fleet hosts at the end.
type inspected struct {
	hosted      map[Key]Hosted
	undisturbed bool
	forgot      bool
}

// inspect leaves out controllers that are down: a dead process hosts nothing.
func inspect(controllers []*MeetingController) map[string]inspected {
	all := make(map[string]inspected, len(controllers))
	for _, controller := range controllers {
		if controller.Down() {
			continue
		}
		controller.mu.Lock()
		forgot := controller.forgot
		controller.mu.Unlock()
		all[controller.ID()] = inspected{hosted: controller.Hosted(), undisturbed: controller.Undisturbed(), forgot: forgot}
	}
	return all
}

// judge holds one look at the cluster and the fleet against the ledger.
func (l *Ledger) judge(listed listing, controllers map[string]inspected) *Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &Verdict{Joins: l.joins, Split: l.split.clone(), Altered: l.altered.clone(), FalselyStale: l.stale.clone()}
	for key, account := range l.meetings {
		for token, grant := range account.grants {
			if grant.mc != "" {
				v.checkGrant(key, token, grant, account.openEnd, listed[key], controllers)
			}
		}
		v.checkOrder(key, account)
	}
	v.checkListing(listed)
	v.checkHosting(listed, controllers)
	return v
}

// checkGrant holds one acknowledged assignment against the cluster's list of its meeting.
func (v *Verdict) checkGrant(key Key, token uint64, g *grant, openEnd bool, listed map[uint64]listedAssignment, controllers map[string]inspected) {
	v.Acknowledged++
	found, ok := listed[token]
	if !ok {
		v.Missing.add("%s under token %d at %s", key, token, g.mc)
		return
	}
	if found.mc != g.mc || !slices.Equal(found.mhs, g.mhs) {
		v.Altered.add("%s under token %d: acknowledged %s %v, listed %s %v", key, token, g.mc, g.mhs, found.mc, found.mhs)
	}
	controller, ours := controllers[g.mc]
	if !found.ended {
		v.Live++
		if !g.endedAt.IsZero() {
			v.Undead.add("%s under token %d at %s", key, token, g.mc)
		}
		if ours && !controller.forgot && controller.hosted[key].Token != token {
			v.NotHosted.add("%s under token %d at %s", key, token, g.mc)
		}
		return
	}
	asked := openEnd || g.perhapsOver || !g.endedAt.IsZero()
	switch {
	case asked:
		v.Ended++
	case highest(listed) == token:
		v.Lost.add("%s under token %d at %s", key, token, g.mc)
	default:
		v.Superseded++
		if ours && controller.undisturbed {
			v.Displaced.add("%s under token %d at %s, by token %d", key, token, g.mc, highest(listed))
		}
	}
}

// checkOrder finds answers that were older than what was known when their calls began.
func (v *Verdict) checkOrder(key Key, account *account) {
	for token, g := range account.grants {
		if g.mc == "" {
			continue
		}
		if !g.endedAt.IsZero() && g.lastStart.After(g.endedAt) {
			v.Disordered.add("%s under token %d: answered to a call that began after its end was acknowledged", key, token)
		}
		for higher, newer := range account.grants {
			if higher > token && newer.mc != "" && g.lastStart.After(newer.firstAck) {
				v.Disordered.add("%s: token %d answered to a call that began after token %d was known", key, token, higher)
				break
			}
		}
	}
}

func (v *Verdict) checkListing(listed listing) {
	for key, assignments := range listed {
		live := 0
		for _, assignment := range assignments {
			if !assignment.ended {
				live++
			}
		}
		if live > 1 {
			v.ListedTwice.add("%s is live %d times", key, live)
		}
	}
}

// checkHosting holds what the controllers host against the cluster's list and each other.
func (v *Verdict) checkHosting(listed listing, controllers map[string]inspected) {
	hosts := make(map[Key]string)
	for id, controller := range controllers {
		for key, held := range controller.hosted {
			v.Hosted++
			if other, taken := hosts[key]; taken {
				v.HostedTwice.add("%s at %s and %s", key, other, id)
			}
			hosts[key] = id
			found, ok := listed[key][held.Token]
			switch {
			case !ok || found.ended || found.mc != id:
				v.Zombies.add("%s under token %d at %s", key, held.Token, id)
			case !slices.Equal(found.mhs, held.MHs):
				v.Altered.add("%s under token %d: %s was told %v, listed %v", key, held.Token, id, held.MHs, found.mhs)
			}
		}
	}
}

func highest(listed map[uint64]listedAssignment) uint64 {
	var top uint64
	for token := range listed {
		top = max(top, token)
	}
	return top
}
