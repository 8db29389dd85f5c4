package main

import (
	"context"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

func newMediaHandlerCommand() *cobra.Command {
	group := &cobra.Command{
		Use:     "mh",
		Short:   "Look at media handlers (MHs)",
		Example: "  conclave mh list --region eu",
	}
	options := addClientFlags(group.PersistentFlags())
	return newGroup(group, newMediaHandlerListCommand(options), newMediaHandlerShowCommand(options))
}

func newMediaHandlerListCommand(options *clientOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the registered media handlers",
		Example: `  conclave mh list
  conclave mh list --region eu --consistency stale
  conclave mh list -o json | jq '.media_handlers[] | select(.health != "HEALTHY") | .handler_id'`,
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
		request := &conclavev1.ListMediaHandlersRequest{Region: *region, Consistency: freshness.level()}
		list, err := listMediaHandlers(cmd.Context(), conclavev1.NewRegistryServiceClient(conn), request)
		if err != nil {
			return err
		}
		return printMessage(cmd.OutOrStdout(), options.output, list, func(table *tabwriter.Writer) {
			mediaHandlerTable(table, list.GetMediaHandlers(), time.Now())
		})
	}
	return cmd
}

// listMediaHandlers joins all pages into one answer, whose index is that of the first page: every
// page reflects at least that.
func listMediaHandlers(ctx context.Context, registry conclavev1.RegistryServiceClient, request *conclavev1.ListMediaHandlersRequest) (*conclavev1.ListMediaHandlersResponse, error) {
	list := &conclavev1.ListMediaHandlersResponse{}
	handlers, _, err := collect(0, func(size uint32, token string) ([]*conclavev1.MediaHandler, string, error) {
		request.PageSize, request.PageToken = size, token
		page, err := registry.ListMediaHandlers(ctx, request)
		if token == "" {
			list.Index = page.GetIndex()
		}
		return page.GetMediaHandlers(), page.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	list.MediaHandlers = handlers
	return list, nil
}

func mediaHandlerTable(table *tabwriter.Writer, handlers []*conclavev1.MediaHandler, now time.Time) {
	row(table, "ID", "REGION", "ZONE", "HEALTH", "LOAD", "STREAMS", "CPU", "MEMORY", "BANDWIDTH", "IN FLIGHT", "LAST REPORT")
	for _, mh := range handlers {
		row(table, mh.GetHandlerId(), mh.GetRegion(), mh.GetZone(), lowercase(mh.GetHealth()),
			loadPercent(mh.GetLoad()), usedOf(mh.GetCurrentStreams(), mh.GetMaxStreams()),
			measuredPercent(mh.GetCpuUsagePercent()), measuredPercent(mh.GetMemoryUsagePercent()),
			measuredPercent(mh.GetBandwidthUsagePercent()), mh.GetInFlight(), ago(now, mh.GetLastReportAt()))
	}
}

func newMediaHandlerShowCommand(options *clientOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one media handler in full",
		Example: `  conclave mh show mh-eu-1
  conclave mh show mh-eu-1 -o json`,
		Args: wantArgs("ID"),
	}
	freshness := addConsistencyFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		conn, err := options.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := conclavev1.NewRegistryServiceClient(conn).GetMediaHandler(cmd.Context(),
			&conclavev1.GetMediaHandlerRequest{HandlerId: args[0], Consistency: freshness.level()})
		if err != nil {
			return err
		}
		return printMessage(cmd.OutOrStdout(), options.output, answer, func(table *tabwriter.Writer) {
			mediaHandlerDetails(table, answer.GetMediaHandler(), time.Now())
		})
	}
	return cmd
}

func mediaHandlerDetails(table *tabwriter.Writer, mh *conclavev1.MediaHandler, now time.Time) {
	row(table, "id:", mh.GetHandlerId())
	row(table, "region:", mh.GetRegion())
	row(table, "zone:", mh.GetZone())
	row(table, "health:", lowercase(mh.GetHealth()))
	row(table, "load:", loadPercent(mh.GetLoad()))
	row(table, "streams:", usedOf(mh.GetCurrentStreams(), mh.GetMaxStreams()))
	row(table, "cpu:", measuredPercent(mh.GetCpuUsagePercent()))
	row(table, "memory:", measuredPercent(mh.GetMemoryUsagePercent()))
	row(table, "bandwidth:", measuredPercent(mh.GetBandwidthUsagePercent()))
	row(table, "in flight:", mh.GetInFlight())
	row(table, "webtransport:", mh.GetWebtransportEndpoint())
	row(table, "grpc:", mh.GetGrpcEndpoint())
	row(table, "registered:", moment(now, mh.GetRegisteredAt()))
	row(table, "last report:", moment(now, mh.GetLastReportAt()))
}
