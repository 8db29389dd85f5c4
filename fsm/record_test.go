package fsm

import (
	"fmt"
	"reflect"
	"testing"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// Whatever field a record has or will be given: it must be hashed, and kept by a snapshot.

func TestEveryFieldOfANode(t *testing.T) {
	checkEveryField(t, new(Node), (*Node).digest, func(n *Node) *Node { return decodeNode(encodeNode(n)) })
}

func TestEveryFieldOfAnAssignment(t *testing.T) {
	checkEveryField(t, new(Assignment), (*Assignment).digest, func(a *Assignment) *Assignment {
		return decodeAssignment(encodeAssignment(new(commandv1.Assignment), a))
	})
}

func TestEveryFieldOfAMember(t *testing.T) {
	checkEveryField(t, new(Member), (*Member).digest, func(m *Member) *Member { return decodeMember(encodeMember(m)) })
}

func checkEveryField[R any](t *testing.T, record *R, digest func(*R) sum, throughSnapshot func(*R) *R) {
	count := 0
	fill(reflect.ValueOf(record).Elem(), &count)
	seen := map[sum]string{digest(record): "as it was"}
	if back := throughSnapshot(record); !reflect.DeepEqual(back, record) {
		t.Fatalf("a snapshot made\n%+v of\n%+v", back, record)
	}
	changes := 0
	eachChange(reflect.ValueOf(record).Elem(), "", func(field string) {
		changes++
		if before, same := seen[digest(record)]; same {
			t.Errorf("%T with another %s has the digest of one with %s", *record, field, before)
		}
		seen[digest(record)] = "another " + field
		if back := throughSnapshot(record); !reflect.DeepEqual(back, record) {
			t.Errorf("another %s did not survive a snapshot:\n%+v became\n%+v", field, record, back)
		}
	})
	if changes < reflect.TypeFor[R]().NumField()-1 {
		t.Fatalf("only %d changes were tried on %T", changes, *record)
	}
}

// fill gives every exported field a value of its own, and every slice two elements.
func fill(v reflect.Value, count *int) {
	*count++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), count)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), count)
		fill(v.Index(1), count)
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), count)
		}
	default:
		setNumber(v, *count)
	}
}

// setNumber turns a number into a value of the kind at hand.
func setNumber(v reflect.Value, n int) {
	switch {
	case v.CanInt():
		v.SetInt(int64(n))
	case v.CanUint():
		v.SetUint(uint64(n))
	case v.CanFloat():
		v.SetFloat(float64(n))
	default:
		v.SetString(fmt.Sprintf("value %d", n))
	}
}

// eachChange calls visit with one exported field changed at a time, down to those of a slice's
// elements, then with one element less.
func eachChange(v reflect.Value, name string, visit func(field string)) {
	before := reflect.New(v.Type()).Elem()
	before.Set(v)
	changed := func(to reflect.Value, how string) {
		v.Set(to)
		visit(name + how)
		v.Set(before)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				eachChange(v.Field(i), name+"."+f.Name, visit)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			eachChange(v.Index(i), fmt.Sprintf("%s[%d]", name, i), visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachChange(v.Index(i), fmt.Sprintf("%s[%d]", name, i), visit)
		}
		changed(before.Slice(0, 1), " (one element)")
	default:
		other := reflect.New(v.Type()).Elem()
		setNumber(other, 1000)
		changed(other, "")
		changed(reflect.Zero(v.Type()), " (zero)")
	}
}

func TestNeighbouringFieldsDoNotRunTogether(t *testing.T) {
	if (&Member{ID: "ab", GRPCAddress: "c"}).digest() == (&Member{ID: "a", GRPCAddress: "bc"}).digest() {
		t.Error("two members have one digest")
	}
	if (&Node{ID: "ab", Region: "c"}).digest() == (&Node{ID: "a", Region: "bc"}).digest() {
		t.Error("two nodes have one digest")
	}
	one := &Assignment{MeetingKey: MeetingKey{Region: "ab", MeetingID: "c"}}
	other := &Assignment{MeetingKey: MeetingKey{Region: "a", MeetingID: "bc"}}
	if one.digest() == other.digest() {
		t.Error("two assignments have one digest")
	}
}
