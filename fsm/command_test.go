package fsm

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// everyCommand is one command of every kind there is, with every field set.
func everyCommand() []*commandv1.Command {
	var all []*commandv1.Command
	ops := new(commandv1.Command).ProtoReflect().Descriptor().Oneofs().ByName("op").Fields()
	for i := range ops.Len() {
		cmd := new(commandv1.Command)
		fillMessage(cmd.ProtoReflect().Mutable(ops.Get(i)).Message())
		all = append(all, cmd)
	}
	return all
}

func fillMessage(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsList():
			list := m.Mutable(f).List()
			for range 2 {
				element := list.NewElement()
				fillMessage(element.Message())
				list.Append(element)
			}
		case f.Message() != nil:
			fillMessage(m.Mutable(f).Message())
		default:
			m.Set(f, someValue(f))
		}
	}
}

func someValue(f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprintf("value-%d", f.Number()))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(f.Number()))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(f.Number()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(f.Number()))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(f.Number()))
	}
	panic(fmt.Sprintf("%s is of a kind that no command had yet", f.FullName()))
}

// eachMessage calls visit for a message and every message in it.
func eachMessage(m protoreflect.Message, visit func(protoreflect.Message)) {
	visit(m)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList():
			for i := range v.List().Len() {
				eachMessage(v.List().Get(i).Message(), visit)
			}
		case f.Message() != nil:
			eachMessage(v.Message(), visit)
		}
		return true
	})
}

func entryOf(cmds ...*commandv1.Command) *commandv1.Entry {
	return &commandv1.Entry{StampUnixMs: 5, Commands: cmds}
}

func decodeAgain(t failer, e *commandv1.Entry) (*commandv1.Entry, error) {
	t.Helper()
	data, err := EncodeEntry(e)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return DecodeEntry(data)
}

func TestEveryCommandIsKnown(t *testing.T) {
	for _, cmd := range everyCommand() {
		got, err := decodeAgain(t, entryOf(cmd))
		if err != nil || !proto.Equal(got, entryOf(cmd)) {
			t.Errorf("%v came back as %v, %v", cmd, got, err)
		}
		if since := Since(cmd); since < 1 || since > CommandVersion {
			t.Errorf("%v is known since version %d, this is version %d", cmd, since, CommandVersion)
		}
		replica := newReplica(t)
		applyAll(t, replica.machine, encodedEntry(t, 1, 1, 5, operation(cmd)))
		checkInvariants(t, replica.state())
	}
}

func TestSince(t *testing.T) {
	for _, c := range []struct {
		cmd  *commandv1.Command
		want uint32
	}{
		{command(&commandv1.Assign{}), 1},
		{command(&commandv1.Assign{RequestId: 1}), NamedJoinsSince},
		{command(&commandv1.End{}), 1},
		{command(&commandv1.End{RequestId: 1}), SessionsSince},
		{command(&commandv1.ReportLoad{}), 1},
		{command(&commandv1.ReportLoad{Session: 1}), SessionsSince},
	} {
		if got := Since(c.cmd); got != c.want {
			t.Errorf("%v is known since version %d, want %d", c.cmd, got, c.want)
		}
	}
}

func operation(cmd *commandv1.Command) proto.Message {
	m := cmd.ProtoReflect()
	return m.Get(m.WhichOneof(m.Descriptor().Oneofs().ByName("op"))).Message().Interface()
}

func TestAnUnknownFieldAnywhereIsRefused(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 1)
	for _, cmd := range everyCommand() {
		entry := entryOf(cmd)
		eachMessage(entry.ProtoReflect(), func(m protoreflect.Message) {
			m.SetUnknown(unknown)
			if _, err := decodeAgain(t, entry); !errors.Is(err, ErrUnknownCommand) {
				t.Errorf("%T with an unknown field in %s: %v, want ErrUnknownCommand", cmd.Op, m.Descriptor().FullName(), err)
			}
			m.SetUnknown(nil)
		})
	}
}

func TestAnUnknownEnumNumberIsRefused(t *testing.T) {
	for _, cmd := range everyCommand() {
		eachMessage(cmd.ProtoReflect(), func(m protoreflect.Message) {
			m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
				if f.Enum() == nil {
					return true
				}
				for _, number := range []protoreflect.EnumNumber{-1, 100, protoreflect.EnumNumber(f.Enum().Values().Len())} {
					m.Set(f, protoreflect.ValueOfEnum(number))
					if _, err := decodeAgain(t, entryOf(cmd)); !errors.Is(err, ErrUnknownCommand) {
						t.Errorf("%s = %d: %v, want ErrUnknownCommand", f.FullName(), number, err)
					}
				}
				m.Set(f, v)
				return true
			})
		})
	}
}

func TestANodeOfNoKindIsRefused(t *testing.T) {
	for _, op := range []proto.Message{&commandv1.RegisterNode{Id: "a"}, &commandv1.ReportLoad{Id: "a"}, &commandv1.MarkStale{Id: "a"}} {
		if _, err := decodeAgain(t, entryOf(command(op))); !errors.Is(err, ErrUnknownCommand) {
			t.Errorf("%T of no kind: %v, want ErrUnknownCommand", op, err)
		}
	}
}

func TestACommandWithoutAnOperationIsRefused(t *testing.T) {
	if _, err := decodeAgain(t, entryOf(new(commandv1.Command))); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("%v, want ErrUnknownCommand", err)
	}
}

func TestAnEntryThatIsNoProtobufIsRefused(t *testing.T) {
	if e, err := DecodeEntry([]byte{0xff}); err == nil {
		t.Errorf("decoded %v", e)
	}
}
