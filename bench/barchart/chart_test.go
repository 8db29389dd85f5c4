package barchart

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// bars reads the SVG as what it is, XML, and returns the widths and colours of its bars, and all text.
func bars(t *testing.T, svg []byte) (widths, colours []string, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return widths, colours, text
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.CharData:
			text += string(token)
		case xml.StartElement:
			attributes := make(map[string]string)
			for _, a := range token.Attr {
				attributes[a.Name.Local] = a.Value
			}
			if attributes["class"] == "bar" {
				widths, colours = append(widths, attributes["width"]), append(colours, attributes["fill"])
			}
		}
	}
}

func TestBarsAreAsLongAsTheirValues(t *testing.T) {
	svg := Chart{Title: "<calls> & more", Panels: []Panel{
		{"one", []Group{{"report", []Bar{{"echo", 1000}, {"etcd", 250}}}, {"get", []Bar{{"etcd", 500}}}}},
		{"none", []Group{{"report", []Bar{{"echo", 0}}}}},
	}}.SVG()
	widths, colours, text := bars(t, svg)
	// 544 pixels are left for the longest.
	if want := []string{"544.0", "136.0", "272.0", "0.0"}; !slices.Equal(widths, want) {
		t.Errorf("bars are %v wide, want %v", widths, want)
	}
	if colours[1] != colours[2] || colours[0] == colours[1] || colours[0] != colours[3] {
		t.Errorf("colours are %v, want one for each label", colours)
	}
	for _, must := range []string{"<calls> & more", "one", "report", "etcd", "250"} {
		if !strings.Contains(text, must) {
			t.Errorf("the chart does not say %q", must)
		}
	}
}
