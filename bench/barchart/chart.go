// Package barchart draws horizontal bars as SVG: enough for a report, and no more.
package barchart

import (
	"bytes"
	"encoding/xml"
	"fmt"
)

// Chart is several panels below each other, each with a scale of its own.
type Chart struct {
	Title  string
	Panels []Panel
}

// Panel is one scale, from 0 to its longest bar.
type Panel struct {
	Title  string
	Groups []Group
}

// Group is bars that belong together.
type Group struct {
	Title string
	Bars  []Bar
}

// Bar is one value. Bars of the same Label have the same colour.
type Bar struct {
	Label string
	Value float64 // not below 0
}

// All in pixels.
const (
	width      = 900
	margin     = 16
	labelWidth = 250
	valueWidth = 90
	barHeight  = 15
	barGap     = 3
	groupGap   = 10
	titleSpace = 30
	panelGap   = 14
)

// colours can be told apart by people who do not see red and green, and on either background.
var colours = []string{"#999999", "#0072b2", "#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#d55e00", "#f0e442"}

// SVG draws the chart.
func (c Chart) SVG() []byte {
	d := &drawing{colour: make(map[string]string), y: margin}
	d.text(margin, d.y+14, "bold", "start", c.Title)
	d.y += titleSpace
	for _, p := range c.Panels {
		d.panel(p)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`+"\n", width, d.y+margin)
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, d.y+margin)
	out.Write(d.body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// drawing is what is drawn so far, down to y.
type drawing struct {
	body   bytes.Buffer
	colour map[string]string // by label
	y      int
}

func (d *drawing) panel(p Panel) {
	longest := 0.0
	for _, g := range p.Groups {
		for _, b := range g.Bars {
			longest = max(longest, b.Value)
		}
	}
	d.text(margin, d.y+12, "bold", "start", p.Title)
	d.y += titleSpace - groupGap
	for _, g := range p.Groups {
		d.text(margin, d.y+11, "normal", "start", g.Title)
		for _, b := range g.Bars {
			d.bar(b, longest)
		}
		d.y += groupGap
	}
	d.y += panelGap
}

func (d *drawing) bar(b Bar, longest float64) {
	const room = width - labelWidth - valueWidth - margin
	length := 0.0
	if longest > 0 {
		length = room * b.Value / longest
	}
	d.text(labelWidth-6, d.y+11, "normal", "end", b.Label)
	fmt.Fprintf(&d.body, `<rect class="bar" x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, d.y, length, barHeight, d.colourOf(b.Label))
	d.text(labelWidth+int(length)+6, d.y+11, "normal", "start", fmt.Sprintf("%.0f", b.Value))
	d.y += barHeight + barGap
}

func (d *drawing) colourOf(label string) string {
	if _, ok := d.colour[label]; !ok {
		d.colour[label] = colours[len(d.colour)%len(colours)]
	}
	return d.colour[label]
}

func (d *drawing) text(x, y int, weight, anchor, text string) {
	fmt.Fprintf(&d.body, `<text x="%d" y="%d" font-weight="%s" text-anchor="%s">`, x, y, weight, anchor)
	_ = xml.EscapeText(&d.body, []byte(text)) // a buffer takes everything
	d.body.WriteString("</text>\n")
}
