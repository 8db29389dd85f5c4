package sim

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// listPageSize is the largest page that the contract allows.
const listPageSize = 1000

// EachAssignment calls visit for every assignment, page by page; with includeEnded also for those
// that ended and are kept for audit. visit never sees a page twice.
func (c *Cluster) EachAssignment(ctx context.Context, consistency conclavev1.Consistency, includeEnded bool, visit func(*conclavev1.Assignment)) error {
	err := c.eachPage(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, token string) (string, func(), error) {
		page, err := conclavev1.NewAssignmentServiceClient(conn).ListAssignments(ctx, &conclavev1.ListAssignmentsRequest{
			IncludeEnded: includeEnded, PageSize: listPageSize, PageToken: token, Consistency: consistency,
		})
		return page.GetNextPageToken(), visitAll(page.GetAssignments(), visit), err
	})
	if err != nil {
		return fmt.Errorf("listing assignments: %w", err)
	}
	return nil
}

// EachMediaHandler calls visit for every registered media handler.
func (c *Cluster) EachMediaHandler(ctx context.Context, consistency conclavev1.Consistency, visit func(*conclavev1.MediaHandler)) error {
	err := c.eachPage(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, token string) (string, func(), error) {
		page, err := conclavev1.NewRegistryServiceClient(conn).ListMediaHandlers(ctx, &conclavev1.ListMediaHandlersRequest{
			PageSize: listPageSize, PageToken: token, Consistency: consistency,
		})
		return page.GetNextPageToken(), visitAll(page.GetMediaHandlers(), visit), err
	})
	if err != nil {
		return fmt.Errorf("listing media handlers: %w", err)
	}
	return nil
}

// EachMeetingController calls visit for every registered meeting controller.
func (c *Cluster) EachMeetingController(ctx context.Context, consistency conclavev1.Consistency, visit func(*conclavev1.MeetingController)) error {
	err := c.eachPage(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, token string) (string, func(), error) {
		page, err := conclavev1.NewRegistryServiceClient(conn).ListMeetingControllers(ctx, &conclavev1.ListMeetingControllersRequest{
			PageSize: listPageSize, PageToken: token, Consistency: consistency,
		})
		return page.GetNextPageToken(), visitAll(page.GetMeetingControllers(), visit), err
	})
	if err != nil {
		return fmt.Errorf("listing meeting controllers: %w", err)
	}
	return nil
}

// pageFetcher reads the page at token and returns the next token and what to do with the page.
type pageFetcher func(ctx context.Context, conn grpc.ClientConnInterface, token string) (next string, deliver func(), err error)

// eachPage delivers a page only once its attempt has succeeded. Pages may come from different
// replicas: a page token names a place in the order of the list, not a cursor of one replica.
func (c *Cluster) eachPage(ctx context.Context, fetch pageFetcher) error {
	token := ""
	for {
		var next string
		var deliver func()
		err := c.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
			next, deliver, err = fetch(ctx, conn, token)
			return err
		})
		if err != nil {
			return err
		}
		deliver()
		if next == "" {
			return nil
		}
		token = next
	}
}

func visitAll[T any](items []T, visit func(T)) func() {
	return func() {
		for _, item := range items {
			visit(item)
		}
	}
}
