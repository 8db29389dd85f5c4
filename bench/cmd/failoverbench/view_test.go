package main

import "testing"

func TestAgreement(t *testing.T) {
	whole := view{"gc-1", 4, 100, 100}
	for _, c := range []struct {
		name  string
		views []view
		ok    bool
	}{
		{"all follow and have everything", []view{whole, whole, whole}, true},
		{"one is ahead, as far as is committed", []view{whole, whole, {"gc-1", 4, 99, 100}}, true},
		{"one has not applied everything", []view{whole, whole, {"gc-1", 4, 100, 99}}, false},
		{"one does not know of the last commit", []view{{"gc-1", 4, 101, 101}, whole, whole}, false},
		{"one knows no leader", []view{whole, whole, {"", 4, 100, 100}}, false},
		{"one follows another leader", []view{whole, {"gc-2", 4, 100, 100}, whole}, false},
		{"one is in an older term", []view{whole, {"gc-1", 3, 100, 100}, whole}, false},
		{"nobody", nil, false},
	} {
		if err := agreement(c.views); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
