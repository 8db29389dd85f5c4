package grpcsvc

import (
	"cmp"
	"fmt"
	"math/rand/v2"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// streamedReport is one report of a stream.
type streamedReport struct {
	sequence uint64
	id       string
	// command is nil when the report is refused already.
	command *commandv1.Command
	refused *conclavev1.RefusedReport
}

// decode makes commands of a message. It fails for what breaks the rules of the stream; a report
// that breaks its own is refused alone.
func (s *reportStream) decode(req *conclavev1.ReportLoadRequest) ([]streamedReport, *FieldError) {
	if bad := validate(req); bad != nil {
		return nil, bad
	}
	if s.session == 0 {
		s.session = cmp.Or(req.Session, rand.Uint64())
	}
	reports := make([]streamedReport, len(req.Reports))
	commands := make([]fsm.ReportCommand, len(req.Reports))
	for i, r := range req.Reports {
		if r.Sequence <= s.sequence {
			return nil, &FieldError{fmt.Sprintf("reports[%d].sequence", i),
				fmt.Sprintf("must be above that of the report before it (got %d after %d)", r.Sequence, s.sequence)}
		}
		s.sequence = r.Sequence
		reports[i] = streamedReport{sequence: r.Sequence, id: r.HandlerId}
		if bad := validate(r); bad != nil {
			s.metrics.countReports(reportInvalid, 1)
			reports[i].refused = &conclavev1.RefusedReport{Sequence: r.Sequence, Reason: ReasonInvalidField, Message: bad.Error()}
		} else {
			reports[i].command = commandOf(&commands[i], s.session, r)
		}
	}
	return reports, nil
}

func commandOf(c *fsm.ReportCommand, session uint64, r *conclavev1.LoadReport) *commandv1.Command {
	c.Usage.Used = r.CurrentStreams
	c.Report.Kind = fsm.MediaHandler
	c.Report.Id = r.HandlerId
	c.Report.Health = fsm.Health(r.Health)
	c.Report.Usage = &c.Usage
	c.Report.CpuPercent = r.CpuUsagePercent
	c.Report.MemoryPercent = r.MemoryUsagePercent
	c.Report.BandwidthPercent = r.BandwidthUsagePercent
	c.Report.Session, c.Report.Sequence = session, r.Sequence
	return c.Command()
}

// commit commits a group of reports and returns the answer to them.
func (s *reportStream) commit(group []streamedReport) (*conclavev1.ReportLoadResponse, error) {
	cmds := make([]*commandv1.Command, 0, len(group))
	for i := range group {
		if cmd := group[i].command; cmd != nil {
			cmds = append(cmds, cmd)
		}
	}
	var results []fsm.Result
	if len(cmds) > 0 {
		var err error
		if results, err = s.submitAll(s.stream.Context(), cmds); err != nil {
			s.metrics.countReports(reportFailed, len(cmds))
			return nil, err
		}
	}
	return s.answer(group, results), nil
}

// answer acknowledges a group; the results are those of its reports that were not refused before.
func (s *reportStream) answer(group []streamedReport, results []fsm.Result) *conclavev1.ReportLoadResponse {
	resp := &conclavev1.ReportLoadResponse{AcknowledgedThrough: group[len(group)-1].sequence}
	repeated, unknown := 0, 0
	for i := range group {
		if group[i].refused != nil {
			resp.Refused = append(resp.Refused, group[i].refused)
			continue
		}
		result := results[0]
		results = results[1:]
		resp.Index = max(resp.Index, result.Index)
		switch result.Outcome {
		case fsm.Repeated:
			repeated++
		case fsm.NotRegistered:
			unknown++
			resp.Refused = append(resp.Refused, &conclavev1.RefusedReport{
				Sequence: group[i].sequence, Reason: ReasonNotRegistered,
				Message: notRegisteredText(fsm.MediaHandler, group[i].id),
			})
		}
	}
	s.metrics.countReports(reportRepeated, repeated)
	s.metrics.countReports(reportNotRegistered, unknown)
	s.metrics.countReports(reportAcknowledged, len(group)-len(resp.Refused)-repeated)
	return resp
}
