package replica

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/conclave-rtc/conclave/grpcsvc"
	"github.com/conclave-rtc/conclave/raftnode"
)

// Config is all that an operator says of one replica.
type Config struct {
	NodeID  string
	Region  string
	Zone    string
	DataDir string

	// The addresses that are listened on; the advertised ones are how others reach them, by
	// default the same.
	GRPCAddress   string
	GRPCAdvertise string
	RaftAddress   string
	RaftAdvertise string
	// HTTPAddress may be empty: no HTTP then.
	HTTPAddress string
	Pprof       bool

	InitialCluster []raftnode.Server
	LogStore       raftnode.LogStoreKind
	Timing         raftnode.Timing
	Retention      raftnode.Retention

	LoadReportInterval time.Duration
	StaleAfter         time.Duration
	MCTimeout          time.Duration
	MaxAssignAttempts  int
	MCTokenFile        string
	ForwardTimeout     time.Duration
	EndedRetention     time.Duration

	Version string
	Logger  hclog.Logger
	// Fatal ends the process: see raftnode.Config.
	Fatal func(error)

	// Listeners that are open already take the place of the addresses: of a supervisor, or of
	// a test that must know its ports.
	GRPCListener, RaftListener, HTTPListener net.Listener
}

// Default is a replica that knows its name only.
func Default() Config {
	return Config{
		Region:             "local",
		GRPCAddress:        "127.0.0.1:50051",
		RaftAddress:        "127.0.0.1:7950",
		HTTPAddress:        "127.0.0.1:8080",
		LogStore:           raftnode.LogStoreWAL,
		Timing:             raftnode.DefaultTiming,
		Retention:          raftnode.DefaultRetention,
		LoadReportInterval: 10 * time.Second,
		StaleAfter:         30 * time.Second,
		MCTimeout:          2 * time.Second,
		MaxAssignAttempts:  3,
		ForwardTimeout:     5 * time.Second,
		EndedRetention:     7 * 24 * time.Hour,
	}
}

// check names the setting and the rule that it breaks.
func (c *Config) check() error {
	positive := []struct {
		name  string
		value time.Duration
	}{
		{"load-report-interval", c.LoadReportInterval},
		{"stale-after", c.StaleAfter},
		{"mc-timeout", c.MCTimeout},
		{"forward-timeout", c.ForwardTimeout},
		{"ended-retention", c.EndedRetention},
	}
	for _, p := range positive {
		if p.value <= 0 {
			return fmt.Errorf("%s must be above zero, it is %v", p.name, p.value)
		}
	}
	switch {
	case c.NodeID == "":
		return errors.New("node-id is missing")
	case c.StaleAfter <= c.LoadReportInterval:
		return fmt.Errorf("stale-after (%v) must be longer than load-report-interval (%v): one late report is not a failure",
			c.StaleAfter, c.LoadReportInterval)
	case c.MaxAssignAttempts < 1 || c.MaxAssignAttempts > 3:
		return fmt.Errorf("max-assign-attempts must be 1 to 3, it is %d", c.MaxAssignAttempts)
	}
	return grpcsvc.CheckNames(c.NodeID, c.Region, c.Zone)
}
