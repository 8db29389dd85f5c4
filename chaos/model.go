package chaos

import (
	"fmt"
	"math"
	"strings"

	"github.com/anishathalye/porcupine"
)

// meetingState is what a client can know of one meeting in one region.
type meetingState struct {
	Live bool
	// Unsure: the live assignment, or the last one, was made by a call whose answer was lost;
	// its token is above Token.
	Unsure bool
	Token  uint64 // the greatest that is known
	MC     string
	MHs    string
}

func (s meetingState) String() string {
	switch {
	case s.Live && s.Unsure:
		return fmt.Sprintf("live under an unknown token above %d", s.Token)
	case s.Live:
		return fmt.Sprintf("live: token %d at %s with %s", s.Token, s.MC, s.MHs)
	case s.Token == 0 && !s.Unsure:
		return "never assigned"
	}
	return fmt.Sprintf("ended (%d)", s.Token)
}

func (s meetingState) ended(token uint64) meetingState {
	return meetingState{Token: max(s.Token, token), Unsure: s.Unsure && token <= s.Token}
}

func liveAs(p *Placement) meetingState {
	return meetingState{Live: true, Token: p.Token, MC: p.MC, MHs: strings.Join(p.MHs, " ")}
}

// asked is the input of an operation of the model.
type asked struct {
	call *Call
	// claimed: another join was told that it created this token.
	claimed bool
}

// meetingModel is the sequential specification: AssignMeeting is get-or-create, EndMeeting ends
// what its token names, GetAssignment reads. A call whose answer was lost may have had its effect
// or not.
var meetingModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{meetingState{}} },
	Step: func(state, input, _ any) []any {
		var next []any
		for _, s := range step(state.(meetingState), input.(asked)) {
			next = append(next, s)
		}
		return next
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, _ any) string {
		c := input.(asked).call
		text := fmt.Sprintf("%s %s %s", c.Client, c.Kind, c.Outcome)
		if c.Token != 0 {
			text += fmt.Sprintf(" token %d", c.Token)
		}
		if c.Reason != "" {
			text += " " + c.Reason
		}
		if c.Found != nil {
			text += fmt.Sprintf(" -> %d at %s with %s (created %v)", c.Found.Token, c.Found.MC, strings.Join(c.Found.MHs, " "), c.Created)
		}
		return text
	},
	DescribeState: func(state any) string { return fmt.Sprint(state) },
}

// step returns the states that a call can lead to; none when its answer is impossible.
func step(s meetingState, in asked) []meetingState {
	c := in.call
	switch c.Kind {
	case KindJoin:
		return stepJoin(s, in)
	case KindGet:
		switch {
		case c.Outcome == Done:
			return found(s, in)
		case !s.Live:
			return []meetingState{s}
		}
	case KindEnd:
		return stepEnd(s, c)
	}
	return nil
}

func stepJoin(s meetingState, in asked) []meetingState {
	c := in.call
	switch {
	case c.Outcome == Unknown:
		return []meetingState{s, {Live: true, Unsure: true, Token: s.Token}}
	case c.Created:
		if c.Found.Token > s.Token {
			return []meetingState{liveAs(c.Found)}
		}
		return nil
	case !in.claimed && c.Found.Token > s.Token:
		// Nobody was told to have made it: a call did whose answer was lost.
		return []meetingState{liveAs(c.Found)}
	}
	return found(s, in)
}

// found is the step of an answer that names the live assignment.
func found(s meetingState, in asked) []meetingState {
	next := liveAs(in.call.Found)
	switch {
	case !s.Live:
		return nil
	case next == s:
		return []meetingState{s}
	case next.Token > s.Token && !in.claimed:
		// Made by a call whose answer was lost, in the place of another one perhaps.
		return []meetingState{next}
	}
	return nil
}

func stepEnd(s meetingState, c *Call) []meetingState {
	names := c.Token == 0 || (c.Token == s.Token && !s.Unsure) || (s.Unsure && c.Token > s.Token)
	switch {
	case c.Outcome == Unknown && s.Live && names:
		return []meetingState{s, s.ended(c.Token)}
	case c.Outcome == Unknown:
		return []meetingState{s}
	case c.Outcome == Done && names && (s.Token != 0 || s.Unsure):
		return []meetingState{s.ended(c.Token)} // ending again what has ended is a success
	case c.Reason == "FENCED" && (s.Unsure || s.Token > c.Token):
		return []meetingState{s}
	case c.Reason == "NO_ASSIGNMENT" && !s.Live:
		return []meetingState{s}
	}
	return nil
}

// operations makes the model's operations of the calls about one meeting. A call without an answer
// never returns.
func operations(calls []*Call) []porcupine.Operation {
	claimed := make(map[uint64]bool)
	for _, c := range calls {
		if c.Created {
			claimed[c.Found.Token] = true
		}
	}
	var ops []porcupine.Operation
	clients := make(map[string]int)
	for _, c := range calls {
		client, known := clients[c.Client]
		if !known {
			client = len(clients)
			clients[c.Client] = client
		}
		op := porcupine.Operation{
			ClientId: client, Call: int64(c.Sent), Return: int64(c.Back),
			Input: asked{c, c.Found != nil && claimed[c.Found.Token]},
		}
		if c.Outcome == Unknown {
			op.Return = math.MaxInt64
		}
		ops = append(ops, op)
	}
	return ops
}
