package main

import (
	"context"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

func newMeetingControllerCommand() *cobra.Command {
	group := &cobra.Command{
		Use:     "mc",
		Short:   "Look at meeting controllers (MCs)",
		Example: "  conclave mc list --region eu",
	}
	options := addClientFlags(group.PersistentFlags())
	return newGroup(group, newMeetingControllerListCommand(options), newMeetingControllerShowCommand(options))
}

func newMeetingControllerListCommand(options *clientOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the registered meeting controllers",
		Example: `  conclave mc list
  conclave mc list --region eu --consistency stale
  conclave mc list -o json | jq '.meeting_controllers[].id'`,
		Args: wantArgs(),
	}
	region := cmd.Flags().String("region", "", "only this region (empty: every region)")
	freshness := addConsistencyFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conn, err := options.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		request := &conclavev1.ListMeetingControllersRequest{Region: *region, Consistency: freshness.level()}
		list, err := listMeetingControllers(cmd.Context(), conclavev1.NewRegistryServiceClient(conn), request)
		if err != nil {
			return err
		}
		return printMessage(cmd.OutOrStdout(), options.output, list, func(table *tabwriter.Writer) {
			meetingControllerTable(table, list.GetMeetingControllers(), time.Now())
		})
	}
	return cmd
}

// listMeetingControllers joins all pages into one answer, whose index is that of the first page:
// every page reflects at least that.
func listMeetingControllers(ctx context.Context, registry conclavev1.RegistryServiceClient, request *conclavev1.ListMeetingControllersRequest) (*conclavev1.ListMeetingControllersResponse, error) {
	list := &conclavev1.ListMeetingControllersResponse{}
	controllers, _, err := collect(0, func(size uint32, token string) ([]*conclavev1.MeetingController, string, error) {
		request.PageSize, request.PageToken = size, token
		page, err := registry.ListMeetingControllers(ctx, request)
		if token == "" {
			list.Index = page.GetIndex()
		}
		return page.GetMeetingControllers(), page.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	list.MeetingControllers = controllers
	return list, nil
}

func meetingControllerTable(table *tabwriter.Writer, controllers []*conclavev1.MeetingController, now time.Time) {
	row(table, "ID", "REGION", "ZONE", "HEALTH", "LOAD", "MEETINGS", "PARTICIPANTS", "IN FLIGHT", "LAST HEARTBEAT")
	for _, mc := range controllers {
		capacity := mc.GetCapacity()
		row(table, mc.GetId(), mc.GetRegion(), mc.GetZone(), lowercase(mc.GetHealth()), loadPercent(mc.GetLoad()),
			usedOf(capacity.GetCurrentMeetings(), capacity.GetMaxMeetings()),
			usedOf(capacity.GetCurrentParticipants(), capacity.GetMaxParticipants()),
			mc.GetInFlight(), ago(now, mc.GetLastHeartbeatAt()))
	}
}

func newMeetingControllerShowCommand(options *clientOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one meeting controller in full",
		Example: `  conclave mc show mc-eu-1
  conclave mc show mc-eu-1 -o json`,
		Args: wantArgs("ID"),
	}
	freshness := addConsistencyFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		conn, err := options.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := conclavev1.NewRegistryServiceClient(conn).GetMeetingController(cmd.Context(),
			&conclavev1.GetMeetingControllerRequest{Id: args[0], Consistency: freshness.level()})
		if err != nil {
			return err
		}
		return printMessage(cmd.OutOrStdout(), options.output, answer, func(table *tabwriter.Writer) {
			meetingControllerDetails(table, answer.GetMeetingController(), time.Now())
		})
	}
	return cmd
}

func meetingControllerDetails(table *tabwriter.Writer, mc *conclavev1.MeetingController, now time.Time) {
	capacity := mc.GetCapacity()
	row(table, "id:", mc.GetId())
	row(table, "region:", mc.GetRegion())
	row(table, "zone:", mc.GetZone())
	row(table, "health:", lowercase(mc.GetHealth()))
	row(table, "load:", loadPercent(mc.GetLoad()))
	row(table, "meetings:", usedOf(capacity.GetCurrentMeetings(), capacity.GetMaxMeetings()))
	row(table, "participants:", usedOf(capacity.GetCurrentParticipants(), capacity.GetMaxParticipants()))
	row(table, "in flight:", mc.GetInFlight())
	row(table, "webtransport:", mc.GetWebtransportEndpoint())
	row(table, "grpc:", mc.GetGrpcEndpoint())
	row(table, "registered:", moment(now, mc.GetRegisteredAt()))
	row(table, "last heartbeat:", moment(now, mc.GetLastHeartbeatAt()))
}
