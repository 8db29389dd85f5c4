package grpcsvc

import (
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/conclave-rtc/conclave/fsm"
)

// A page token is the place of the last item of a page. It stays good when items come and go,
// at any replica.

const defaultPageSize = 100

func pageSize(asked uint32) int {
	if asked == 0 {
		return defaultPageSize
	}
	return int(asked)
}

var errPageToken = &FieldError{Field: "page_token", Rule: "must be the next_page_token of an answer"}

func encodeCursor(a *fsm.Assignment) string {
	place := a.Region + "\x00" + a.MeetingID + "\x00"
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64([]byte(place), a.Token))
}

func decodeCursor(token string) (fsm.Cursor, *FieldError) {
	if token == "" {
		return fsm.Cursor{}, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return fsm.Cursor{}, errPageToken
	}
	region, rest, found := strings.Cut(string(data), "\x00")
	if !found || len(rest) < 9 || rest[len(rest)-9] != 0 {
		return fsm.Cursor{}, errPageToken
	}
	return fsm.Cursor{
		MeetingKey: fsm.MeetingKey{Region: region, MeetingID: rest[:len(rest)-9]},
		Token:      binary.BigEndian.Uint64([]byte(rest[len(rest)-8:])),
	}, nil
}

func encodeIDCursor(id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(id))
}

func decodeIDCursor(token string) (string, *FieldError) {
	id, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", errPageToken
	}
	return string(id), nil
}
