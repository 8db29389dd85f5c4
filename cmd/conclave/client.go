package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// clientOptions are the flags of every command that asks a cluster.
type clientOptions struct {
	targets addressList
	timeout time.Duration
	output  outputFormat
}

// addClientFlags gives a command and those below it the flags to reach a cluster.
func addClientFlags(flags *pflag.FlagSet) *clientOptions {
	options := &clientOptions{
		targets: addressList{"127.0.0.1:50051"},
		timeout: 5 * time.Second,
		output:  outputTable,
	}
	flags.Var(&options.targets, "target", "gRPC addresses of replicas; the first that answers is used")
	flags.Var((*positiveDuration)(&options.timeout), "timeout", "how long to wait for an answer")
	addOutputFlag(flags, &options.output)
	return options
}

// addConsistencyFlag says how fresh what a command reads must be.
func addConsistencyFlag(flags *pflag.FlagSet) *consistency {
	level := consistency(conclavev1.Consistency_LINEARIZABLE)
	flags.Var(&level, "consistency", "linearizable sees every write acknowledged before; stale is what the\nreplica has, at once and also without a leader")
	return &level
}

// connection is a replica that answered, and the address at which it did.
type connection struct {
	*grpc.ClientConn
	target string
}

// connect returns a connection to the first target that answers. Targets are tried before
// anything is asked of them, so that no request is ever sent twice.
func (o *clientOptions) connect(ctx context.Context) (*connection, error) {
	patience := o.timeout / time.Duration(len(o.targets))
	for _, target := range o.targets {
		conn, err := o.dial(ctx, target, patience)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("no replica answered at %s; is `conclave serve` running?", strings.Join(o.targets, ", "))
}

// dial connects to one replica, for at most the patience given. Its calls take at most the
// timeout of the options each, and their errors are worded for people.
func (o *clientOptions) dial(ctx context.Context, target string, patience time.Duration) (*connection, error) {
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(wordErrors(target, o.timeout)))
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", target, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			conn.Close()
			return nil, fmt.Errorf("no answer at %s", target)
		}
	}
	return &connection{ClientConn: conn, target: target}, nil
}

// wordErrors limits how long calls take and puts their errors into one readable line.
func wordErrors(target string, timeout time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		err := invoke(limited, method, request, reply, conn, options...)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		return wordError(err, target, timeout)
	}
}

// wordError says what a replica answered, why, and what to do about it.
func wordError(err error, target string, timeout time.Duration) error {
	answer, isStatus := status.FromError(err)
	if err == nil || !isStatus {
		return err
	}
	reason, retry := "", ""
	for _, detail := range answer.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.GetReason()
		case *errdetails.RetryInfo:
			if delay := detail.GetRetryDelay().AsDuration(); delay > 0 {
				retry = fmt.Sprintf("; try again in %s", delay)
			} else {
				retry = "; try again"
			}
		}
	}
	switch {
	case reason != "":
		return fmt.Errorf("%s (%s)%s%s", answer.Message(), reason, whereToLook(reason), retry)
	case answer.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("no answer from %s within %s; try again, or wait longer with --timeout", target, timeout)
	case answer.Code() == codes.Unimplemented:
		return fmt.Errorf("%s speaks gRPC, but is no Conclave replica of this version: %s (%s)", target, answer.Message(), answer.Code())
	case answer.Code() == codes.Unavailable:
		return fmt.Errorf("%s is not available: %s%s", target, answer.Message(), cmp.Or(retry, "; try again"))
	default:
		return fmt.Errorf("%s answered: %s (%s)%s", target, answer.Message(), answer.Code(), retry)
	}
}

// whereToLook names the command that shows more of what stands behind a reason.
func whereToLook(reason string) string {
	switch reason {
	case "NO_MEDIA_HANDLERS":
		return "; see 'conclave mh list'"
	case "NO_MEETING_CONTROLLERS", "CONTROLLERS_AT_CAPACITY", "CONTROLLERS_DRAINING",
		"CONTROLLERS_UNHEALTHY", "CONTROLLERS_UNREACHABLE":
		return "; see 'conclave mc list'"
	case "NO_LEADER":
		return "; see 'conclave status'"
	case "FENCED":
		return "; see 'conclave meeting show'"
	default:
		return ""
	}
}

// pageSize is the most that a replica puts on one page.
const pageSize = 1000

// collect reads page after page until the last one, or until it has limit items (0: all). It also
// returns the token of the page after, empty when there is none.
func collect[Item any](limit uint32, fetch func(size uint32, token string) ([]Item, string, error)) ([]Item, string, error) {
	var items []Item
	for token := ""; ; {
		size := uint32(pageSize)
		if limit > 0 {
			size = min(size, limit-uint32(len(items)))
		}
		page, next, err := fetch(size, token)
		if err != nil {
			return nil, "", err
		}
		items = append(items, page...)
		if next == "" || limit > 0 && len(items) >= int(limit) {
			return items, next, nil
		}
		if next == token {
			return nil, "", errors.New("the replica answers with the same page again and again")
		}
		token = next
	}
}

// addressList is a flag of host:port addresses, separated by commas; the last value given counts.
type addressList []string

func (l *addressList) String() string { return strings.Join(*l, ",") }

// Type is what help shows in the place of the value.
func (l *addressList) Type() string { return "addr[,addr...]" }

// Set replaces the list.
func (l *addressList) Set(text string) error {
	var addresses addressList
	for address := range strings.SplitSeq(text, ",") {
		address = strings.TrimSpace(address)
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "" {
			return &valueError{want: "host:port[,host:port...]"}
		}
		addresses = append(addresses, address)
	}
	*l = addresses
	return nil
}

// positiveDuration is a flag of a duration above zero.
type positiveDuration time.Duration

func (d *positiveDuration) String() string { return time.Duration(*d).String() }

// Type is what help shows in the place of the value.
func (d *positiveDuration) Type() string { return "duration" }

// Set takes a duration as Go writes it.
func (d *positiveDuration) Set(text string) error {
	parsed, err := time.ParseDuration(text)
	if err != nil || parsed <= 0 {
		return &valueError{want: "a duration above zero, as in 500ms or 10s"}
	}
	*d = positiveDuration(parsed)
	return nil
}

// consistency is a flag of a read consistency.
type consistency conclavev1.Consistency

func (c *consistency) String() string { return lowercase(c.level()) }

// Type is what help shows in the place of the value.
func (c *consistency) Type() string { return "linearizable|stale" }

// Set takes the name of a consistency.
func (c *consistency) Set(name string) error {
	level, known := conclavev1.Consistency_value[strings.ToUpper(name)]
	if !known {
		return &valueError{want: "linearizable or stale"}
	}
	*c = consistency(level)
	return nil
}

func (c *consistency) level() conclavev1.Consistency { return conclavev1.Consistency(*c) }
