package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the replicas, their leader and how far each has come",
		Long: `Ask every replica how it is. One that answers tells the addresses of the others. The state of
replicas at the same applied index must be the same; status warns when it is not.`,
		Example: `  conclave status
  conclave status --target 10.0.0.1:50051,10.0.0.2:50051
  conclave status -o json | jq -r .leader_id`,
		Args: wantArgs(),
	}
	options := addClientFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conn, err := options.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		first, err := conclavev1.NewClusterServiceClient(conn).GetStatus(cmd.Context(), &conclavev1.GetStatusRequest{})
		if err != nil {
			return err
		}
		cluster := summarize(askReplicas(cmd.Context(), first, options.askStatus))
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		for _, warning := range cluster.Warnings {
			fmt.Fprintf(cmd.ErrOrStderr(), "conclave: warning: %s\n", printable(warning))
		}
		return printCluster(cmd.OutOrStdout(), options.output, cluster)
	}
	return cmd
}

// clusterSummary is what all replicas together say. Its JSON is for programs: 64-bit numbers are
// strings there, as they are in the JSON of every protobuf message.
type clusterSummary struct {
	LeaderID           string          `json:"leader_id"`
	Term               uint64          `json:"term,string"`
	MediaHandlers      uint64          `json:"media_handlers,string"`
	MeetingControllers uint64          `json:"meeting_controllers,string"`
	LiveAssignments    uint64          `json:"live_assignments,string"`
	Replicas           []replicaStatus `json:"replicas"`
	Warnings           []string        `json:"warnings"`
}

// replicaStatus is one member of the cluster, as the first answer knows it, with its own answer.
type replicaStatus struct {
	ID          string `json:"id"`
	Role        string `json:"role"`
	GRPCAddress string `json:"grpc_address"`
	RaftAddress string `json:"raft_address"`
	Suffrage    string `json:"suffrage"`
	State       string `json:"state"`
	// Status is null in JSON for a replica that did not answer.
	Status json.RawMessage `json:"status"`

	answer *conclavev1.GetStatusResponse
}

// askStatus asks one replica; it fails when there is no answer at that address.
func (o *clientOptions) askStatus(ctx context.Context, address string) (*conclavev1.GetStatusResponse, error) {
	conn, err := o.dial(ctx, address, o.timeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conclavev1.NewClusterServiceClient(conn).GetStatus(ctx, &conclavev1.GetStatusRequest{})
}

// askReplicas asks all members that the first answer names, at the same time.
func askReplicas(ctx context.Context, first *conclavev1.GetStatusResponse, ask func(context.Context, string) (*conclavev1.GetStatusResponse, error)) []replicaStatus {
	replicas := make([]replicaStatus, len(first.GetMembers()))
	isFirst := func(member *conclavev1.Member) bool { return member.GetId() == first.GetNodeId() }
	var asked sync.WaitGroup
	for i, member := range first.GetMembers() {
		asked.Go(func() {
			entry := replicaStatus{ID: member.GetId(), GRPCAddress: member.GetGrpcAddress(), RaftAddress: member.GetRaftAddress(), Suffrage: member.GetSuffrage()}
			switch {
			case isFirst(member):
				// Its address may be one that only the other replicas can reach.
				entry.answer, entry.State = first, "ok"
			case entry.GRPCAddress == "":
				entry.State = "not announced"
			default:
				entry.answer, entry.State = interview(ctx, entry, ask)
			}
			replicas[i] = entry
		})
	}
	asked.Wait()
	if !slices.ContainsFunc(first.GetMembers(), isFirst) {
		replicas = append(replicas, replicaStatus{ID: first.GetNodeId(), State: "not a member", answer: first})
	}
	slices.SortFunc(replicas, func(a, b replicaStatus) int { return cmp.Compare(a.ID, b.ID) })
	return replicas
}

// interview returns the answer of a replica, nil without a useful one, and its state in words.
func interview(ctx context.Context, entry replicaStatus, ask func(context.Context, string) (*conclavev1.GetStatusResponse, error)) (*conclavev1.GetStatusResponse, string) {
	answer, err := ask(ctx, entry.GRPCAddress)
	if err != nil {
		return nil, "unreachable"
	}
	// Replicas that all advertise their loopback address lead to one and the same of them.
	if answer.GetNodeId() != entry.ID {
		return nil, "answered by " + answer.GetNodeId()
	}
	return answer, "ok"
}

// summarize takes the leader of the greatest term in which anybody knows one, and the totals from
// that leader or else from the replica that has applied most.
func summarize(replicas []replicaStatus) clusterSummary {
	cluster := clusterSummary{Replicas: replicas, Warnings: []string{}}
	var best *conclavev1.GetStatusResponse
	for _, entry := range replicas {
		if entry.answer == nil {
			continue
		}
		if best == nil || entry.answer.GetAppliedIndex() > best.GetAppliedIndex() {
			best = entry.answer
		}
		// A replica that is cut off may be at a greater term, but knows no leader.
		term, leader := entry.answer.GetTerm(), entry.answer.GetLeaderId()
		if knows, known := leader != "", cluster.LeaderID != ""; knows && !known || knows == known && term > cluster.Term {
			cluster.Term, cluster.LeaderID = term, leader
		}
	}
	for i := range replicas {
		entry := &replicas[i]
		entry.Role = "follower"
		if entry.ID == cluster.LeaderID {
			entry.Role = "leader"
			if entry.answer != nil {
				best = entry.answer
			}
		}
	}
	cluster.MediaHandlers = best.GetMediaHandlers()
	cluster.MeetingControllers = best.GetMeetingControllers()
	cluster.LiveAssignments = best.GetLiveAssignments()
	if cluster.LeaderID == "" {
		cluster.Warnings = append(cluster.Warnings, "no leader: writes and linearizable reads wait until a majority of the replicas is up")
	}
	cluster.Warnings = append(cluster.Warnings, compareHashes(replicas)...)
	return cluster
}

// compareHashes warns of replicas that applied the same log and came to different states.
func compareHashes(replicas []replicaStatus) []string {
	var warnings []string
	firstAt := map[uint64]replicaStatus{}
	for _, entry := range replicas {
		if entry.answer == nil {
			continue
		}
		index := entry.answer.GetAppliedIndex()
		first, seen := firstAt[index]
		if !seen {
			firstAt[index] = entry
			continue
		}
		if first.answer.GetStateHash() != entry.answer.GetStateHash() {
			warnings = append(warnings, fmt.Sprintf("%s and %s differ in state at applied index %d (%s and %s): keep their data folders and report this as a bug",
				first.ID, entry.ID, index, shortHash(first.answer), shortHash(entry.answer)))
		}
	}
	return warnings
}

func shortHash(answer *conclavev1.GetStatusResponse) string {
	hash := answer.GetStateHash()
	return hash[:min(len(hash), 12)]
}

func printCluster(w io.Writer, format outputFormat, cluster clusterSummary) error {
	if format == outputJSON {
		return printClusterJSON(w, cluster)
	}
	err := printTable(w, func(table *tabwriter.Writer) {
		row(table, "leader:", cmp.Or(cluster.LeaderID, "none"))
		row(table, "term:", cluster.Term)
		row(table, "media handlers:", cluster.MediaHandlers)
		row(table, "meeting controllers:", cluster.MeetingControllers)
		row(table, "live meetings:", cluster.LiveAssignments)
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return printTable(w, func(table *tabwriter.Writer) {
		row(table, "ID", "ROLE", "GRPC", "RAFT", "SUFFRAGE", "TERM", "COMMIT", "APPLIED", "HASH", "VERSION", "STATE")
		for _, entry := range cluster.Replicas {
			term, commit, applied := any(""), any(""), any("")
			if answer := entry.answer; answer != nil {
				term, commit, applied = answer.GetTerm(), answer.GetCommitIndex(), answer.GetAppliedIndex()
			}
			row(table, entry.ID, entry.Role, entry.GRPCAddress, entry.RaftAddress, entry.Suffrage,
				term, commit, applied, shortHash(entry.answer), entry.answer.GetVersion(), entry.State)
		}
	})
}

func printClusterJSON(w io.Writer, cluster clusterSummary) error {
	for i := range cluster.Replicas {
		entry := &cluster.Replicas[i]
		if entry.answer == nil {
			continue
		}
		status, err := messageJSON(entry.answer)
		if err != nil {
			return err
		}
		entry.Status = status
	}
	return printJSON(w, cluster)
}
