package etcdcluster

import (
	"flag"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// Serve runs a member until it fails or is killed. args are what a Cluster puts on its command line
// after Config.Args.
func Serve(args []string) error {
	s := newSettings()
	if err := s.flags().Parse(args); err != nil {
		return fmt.Errorf("etcd member: %w", err)
	}
	config, err := s.config()
	if err != nil {
		return fmt.Errorf("etcd member: %w", err)
	}
	member, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start the etcd member %s: %w", s.name, err)
	}
	return fmt.Errorf("the etcd member %s ended: %w", s.name, <-member.Err())
}

// settings are what a member's command line says.
type settings struct {
	name, dataDir           string
	clientAddr              string
	peerAddr, peerAdvertise string
	initialCluster          string
	heartbeat, election     time.Duration
}

// newSettings has etcd's own timers.
func newSettings() *settings {
	d := embed.NewConfig()
	return &settings{
		heartbeat: time.Duration(d.TickMs) * time.Millisecond,
		election:  time.Duration(d.ElectionMs) * time.Millisecond,
	}
}

// flags reads a command line into the settings; what it does not say stays as it is.
func (s *settings) flags() *flag.FlagSet {
	f := flag.NewFlagSet("etcd member", flag.ContinueOnError)
	f.StringVar(&s.name, "name", s.name, "name of this member")
	f.StringVar(&s.dataDir, "data-dir", s.dataDir, "its data folder")
	f.StringVar(&s.clientAddr, "client-addr", s.clientAddr, "host:port for clients")
	f.StringVar(&s.peerAddr, "peer-addr", s.peerAddr, "host:port for the other members")
	f.StringVar(&s.peerAdvertise, "peer-advertise", s.peerAdvertise, "host:port that the others are told")
	f.StringVar(&s.initialCluster, "initial-cluster", s.initialCluster, "name=url of each member, separated by commas")
	f.DurationVar(&s.heartbeat, "heartbeat", s.heartbeat, "interval of heartbeats, in whole milliseconds")
	f.DurationVar(&s.election, "election", s.election, "election timeout, in whole milliseconds")
	return f
}

// args is the command line of these settings.
func (s *settings) args() []string {
	var args []string
	s.flags().VisitAll(func(f *flag.Flag) { args = append(args, "-"+f.Name+"="+f.Value.String()) })
	return args
}

// config is etcd's own; it is not nil only if etcd accepts it.
func (s *settings) config() (*embed.Config, error) {
	for _, d := range []time.Duration{s.heartbeat, s.election} {
		if d <= 0 || d%time.Millisecond != 0 {
			return nil, fmt.Errorf("%v is not a number of milliseconds above zero", d)
		}
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster = s.name, s.dataDir, s.initialCluster
	c.TickMs, c.ElectionMs = uint(s.heartbeat.Milliseconds()), uint(s.election.Milliseconds())
	// At its usual level etcd writes a line for every slow request, which a leader's death makes of
	// all requests.
	c.LogLevel, c.LogOutputs = "error", []string{"stderr"}
	at := func(addr string) []url.URL { return []url.URL{{Scheme: "http", Host: addr}} }
	c.ListenClientUrls, c.AdvertiseClientUrls = at(s.clientAddr), at(s.clientAddr)
	c.ListenPeerUrls, c.AdvertisePeerUrls = at(s.peerAddr), at(s.peerAdvertise)
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}
