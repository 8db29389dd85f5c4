package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

func newMeetingCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "meeting",
		Short: "Assign, show, list and end meetings",
		Example: `  conclave meeting assign standup --region eu
  conclave meeting end standup --region eu`,
	}
	options := addClientFlags(group.PersistentFlags())
	return newGroup(group, newMeetingAssignCommand(options), newMeetingShowCommand(options),
		newMeetingListCommand(options), newMeetingEndCommand(options))
}

// addMeetingRegionFlag is for commands about one meeting, which is a different one in each region.
func addMeetingRegionFlag(flags *pflag.FlagSet) *string {
	return flags.String("region", "", "region of the meeting (empty: that of the replica that answers)")
}

func newMeetingAssignCommand(options *clientOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "assign MEETING",
		Short: "Get the assignment of a meeting, or make one",
		Long: `Get the live assignment of a meeting in a region; when there is none, have one made, as the
first person to join would.`,
		Example: `  conclave meeting assign standup --region eu
  conclave meeting assign standup --region eu --preferred-zone eu-1a
  conclave meeting assign standup -o json | jq -r .assignment.mc_webtransport_endpoint`,
		Args: wantArgs("MEETING"),
	}
	region := addMeetingRegionFlag(cmd.Flags())
	zone := cmd.Flags().String("preferred-zone", "", "prefer meeting controllers and media handlers in this zone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		conn, err := options.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := conclavev1.NewAssignmentServiceClient(conn).AssignMeeting(cmd.Context(),
			&conclavev1.AssignMeetingRequest{MeetingId: args[0], Region: *region, PreferredZone: *zone})
		if err != nil {
			return err
		}
		return printMessage(cmd.OutOrStdout(), options.output, answer, func(table *tabwriter.Writer) {
			assignment, outcome := answer.GetAssignment(), "was assigned already"
			if answer.GetCreated() {
				outcome = "is assigned now"
			}
			row(table, fmt.Sprintf("meeting %q %s", assignment.GetMeetingId(), outcome))
			assignmentDetails(table, assignment, time.Now())
		})
	}
	return cmd
}

func newMeetingShowCommand(options *clientOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show MEETING",
		Short: "Show the live assignment of a meeting",
		Example: `  conclave meeting show standup --region eu
  conclave meeting show standup --region eu --consistency stale -o json`,
		Args: wantArgs("MEETING"),
	}
	region := addMeetingRegionFlag(cmd.Flags())
	freshness := addConsistencyFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		conn, err := options.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := conclavev1.NewAssignmentServiceClient(conn).GetAssignment(cmd.Context(),
			&conclavev1.GetAssignmentRequest{MeetingId: args[0], Region: *region, Consistency: freshness.level()})
		if err != nil {
			return err
		}
		return printMessage(cmd.OutOrStdout(), options.output, answer, func(table *tabwriter.Writer) {
			assignmentDetails(table, answer.GetAssignment(), time.Now())
		})
	}
	return cmd
}

func assignmentDetails(table *tabwriter.Writer, assignment *conclavev1.Assignment, now time.Time) {
	row(table, "meeting:", assignment.GetMeetingId())
	row(table, "region:", assignment.GetRegion())
	row(table, "token:", assignment.GetFencingToken())
	row(table, "mc:", assignment.GetMcId())
	row(table, "mc webtransport:", assignment.GetMcWebtransportEndpoint())
	row(table, "mc grpc:", assignment.GetMcGrpcEndpoint())
	for _, mh := range assignment.GetMhAssignments() {
		role := strings.TrimPrefix(lowercase(mh.GetRole()), "mh_role_")
		row(table, "mh "+role+":", fmt.Sprintf("%s at %s", mh.GetMhId(), mh.GetWebtransportEndpoint()))
	}
	row(table, "assigned by:", assignment.GetAssignedByGcId())
	row(table, "assigned:", moment(now, assignment.GetAssignedAt()))
	if assignment.GetEndedAt() != nil {
		row(table, "ended:", moment(now, assignment.GetEndedAt()))
		row(table, "end reason:", assignment.GetEndReason())
	}
}

func newMeetingListCommand(options *clientOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List assignments of meetings",
		Example: `  conclave meeting list --region eu --limit 20
  conclave meeting list --mc mc-eu-1
  conclave meeting list --ended -o json | jq '.assignments | length'`,
		Args: wantArgs(),
	}
	flags := cmd.Flags()
	region := flags.String("region", "", "only this region (empty: every region)")
	mc := flags.String("mc", "", "only what this meeting controller hosts (empty: every one)")
	ended := flags.Bool("ended", false, "also those that have ended")
	limit := flags.Uint32("limit", 0, "at most this many (0: all)")
	freshness := addConsistencyFlag(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conn, err := options.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		request := &conclavev1.ListAssignmentsRequest{Region: *region, McId: *mc, IncludeEnded: *ended, Consistency: freshness.level()}
		list, err := listAssignments(cmd.Context(), conclavev1.NewAssignmentServiceClient(conn), request, *limit)
		if err != nil {
			return err
		}
		if list.GetNextPageToken() != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "conclave: there are more than these %d; raise --limit to see them\n", len(list.GetAssignments()))
		}
		return printMessage(cmd.OutOrStdout(), options.output, list, func(table *tabwriter.Writer) {
			assignmentTable(table, list.GetAssignments(), time.Now())
		})
	}
	return cmd
}

// listAssignments joins pages into one answer, whose index is that of the first page: every page
// reflects at least that. Its next page token is empty unless the limit left something out.
func listAssignments(ctx context.Context, assignments conclavev1.AssignmentServiceClient, request *conclavev1.ListAssignmentsRequest, limit uint32) (*conclavev1.ListAssignmentsResponse, error) {
	list := &conclavev1.ListAssignmentsResponse{}
	items, next, err := collect(limit, func(size uint32, token string) ([]*conclavev1.Assignment, string, error) {
		request.PageSize, request.PageToken = size, token
		page, err := assignments.ListAssignments(ctx, request)
		if token == "" {
			list.Index = page.GetIndex()
		}
		return page.GetAssignments(), page.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	list.Assignments, list.NextPageToken = items, next
	return list, nil
}

func assignmentTable(table *tabwriter.Writer, assignments []*conclavev1.Assignment, now time.Time) {
	row(table, "MEETING", "REGION", "MC", "MHS", "TOKEN", "ASSIGNED", "STATE")
	for _, assignment := range assignments {
		var handlers []string
		for _, mh := range assignment.GetMhAssignments() {
			handlers = append(handlers, mh.GetMhId())
		}
		state := "live"
		if assignment.GetEndedAt() != nil {
			state = fmt.Sprintf("ended %s: %s", ago(now, assignment.GetEndedAt()), assignment.GetEndReason())
		}
		row(table, assignment.GetMeetingId(), assignment.GetRegion(), assignment.GetMcId(), strings.Join(handlers, ","),
			assignment.GetFencingToken(), ago(now, assignment.GetAssignedAt()), state)
	}
}

func newMeetingEndCommand(options *clientOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "end MEETING",
		Short: "End the live assignment of a meeting",
		Long: `End the live assignment of a meeting in a region. Other regions keep theirs. With --token, only
that very assignment is ended, never one that was made since.`,
		Example: `  conclave meeting end standup --region eu
  conclave meeting end standup --region eu --token 4294967297 --reason "moved by hand"`,
		Args: wantArgs("MEETING"),
	}
	region := addMeetingRegionFlag(cmd.Flags())
	token := cmd.Flags().Uint64("token", 0, "fencing token of the assignment to end (0: whichever is live)")
	reason := cmd.Flags().String("reason", "ended from the command line", "reason for the audit trail")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		conn, err := options.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := conclavev1.NewAssignmentServiceClient(conn).EndMeeting(cmd.Context(),
			&conclavev1.EndMeetingRequest{MeetingId: args[0], Region: *region, FencingToken: *token, Reason: *reason})
		if err != nil {
			return err
		}
		return printMessage(cmd.OutOrStdout(), options.output, answer, func(table *tabwriter.Writer) {
			outcome := "had no live assignment: nothing to end"
			if answer.GetEnded() {
				outcome = "has ended"
			}
			row(table, fmt.Sprintf("meeting %q %s", args[0], outcome))
		})
	}
	return cmd
}
