package grpcsvc

import (
	"context"
	"fmt"

	"github.com/conclave-rtc/conclave/batch"
	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// submitLimits count commands: what nodes report at a follower goes to the leader in messages that
// many share. The second gathers commands for the leader's next entry while the first is being
// committed.
var submitLimits = batch.Limits{Batch: 512, Queue: 16384, InFlight: 2}

// submit commits a registration, a report or an announcement, here or at the leader.
func (s *Server) submit(ctx context.Context, cmd *commandv1.Command) (fsm.Result, error) {
	results, err := s.submitAll(ctx, []*commandv1.Command{cmd})
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], nil
}

// submitAll commits commands as one group, at most submitLimits.Batch, and returns what each did.
// Each may be sent twice without harm: a registration by its id, a report by its number, the others
// by what they say.
func (s *Server) submitAll(ctx context.Context, cmds []*commandv1.Command) ([]fsm.Result, error) {
	return atLeader(ctx, s, "Submit",
		func() ([]fsm.Result, error) { return s.proposeAll(ctx, cmds) },
		func(ctx context.Context, _ *leaderView) ([]fsm.Result, error) {
			return s.submits.Do(ctx, cmds)
		})
}

// propose commits a command at the leader.
func (s *Server) propose(ctx context.Context, cmd *commandv1.Command) (fsm.Result, error) {
	results, err := s.proposeAll(ctx, []*commandv1.Command{cmd})
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], nil
}

// proposeAll commits a group of commands at the leader. Nodes count as heard from the moment
// their word reached it, however long the commit takes.
func (s *Server) proposeAll(ctx context.Context, cmds []*commandv1.Command) ([]fsm.Result, error) {
	s.assigner.Heard(cmds)
	if !s.node.Understands(fsm.SessionsSince) {
		for _, cmd := range cmds { // a replica that does not know sessions is still among us
			if r := cmd.GetReportLoad(); r != nil {
				r.Session, r.Sequence = 0, 0
			}
		}
	}
	return s.node.ProposeAll(ctx, raftnode.Bulk, cmds)
}

// submitToLeader sends one message with the commands of many calls. A command that the leader
// could not commit makes its own call look for the leader again.
func (s *Server) submitToLeader(cmds []*commandv1.Command) ([]fsm.Result, error) {
	resp, err := s.askLeader(&replicav1.ForwardRequest{Request: &replicav1.ForwardRequest_Submit{
		Submit: &replicav1.SubmitRequest{Commands: cmds},
	}})
	if err != nil {
		return nil, err
	}
	answers := resp.GetSubmit().GetResults()
	if len(answers) != len(cmds) {
		return nil, fmt.Errorf("the leader answered %d of %d commands", len(answers), len(cmds))
	}
	results := make([]fsm.Result, len(cmds))
	for i, r := range answers {
		results[i] = decodeResult(r)
	}
	return results, nil
}
