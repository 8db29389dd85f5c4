package fsm

import "fmt"

// A fencing token is the Raft term of the leader that drew it in the high 24 bits and that
// leader's counter in the low 40. Terms only rise and one term has one leader, so tokens rise
// across leaders and restarts and no two leaders draw the same (Kleppmann, "How to do
// distributed locking": a token that storage can compare).

const (
	tokenCounterBits = 40
	maxTokenTerm     = 1<<(64-tokenCounterBits) - 1
	maxTokenCounter  = 1<<tokenCounterBits - 1
)

// NewToken makes the token of a term and a counter. It fails when either no longer fits: after
// sixteen million elections, or a million million assignments by one leader.
func NewToken(term, counter uint64) (uint64, error) {
	if term > maxTokenTerm || counter > maxTokenCounter {
		return 0, fmt.Errorf("term %d and counter %d do not fit a fencing token", term, counter)
	}
	return term<<tokenCounterBits | counter, nil
}

// TokenTerm is the Raft term in which a token was drawn.
func TokenTerm(token uint64) uint64 { return token >> tokenCounterBits }
