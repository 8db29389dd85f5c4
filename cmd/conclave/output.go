package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// outputFormat is the value of --output: tables for people or JSON for programs.
type outputFormat string

const (
	outputTable outputFormat = "table"
	outputJSON  outputFormat = "json"
)

func (f *outputFormat) String() string { return string(*f) }

// Type is what help shows in the place of the value.
func (f *outputFormat) Type() string { return "table|json" }

// Set takes the name of a format.
func (f *outputFormat) Set(name string) error {
	switch format := outputFormat(name); format {
	case outputTable, outputJSON:
		*f = format
		return nil
	default:
		return &valueError{want: "table or json"}
	}
}

func addOutputFlag(flags *pflag.FlagSet, format *outputFormat) {
	flags.VarP(format, "output", "o", "a table for people or JSON for programs")
}

// printMessage writes a response as JSON, or else the table that fill makes of it.
func printMessage(w io.Writer, format outputFormat, response proto.Message, fill func(*tabwriter.Writer)) error {
	if format != outputJSON {
		return printTable(w, fill)
	}
	document, err := messageJSON(response)
	if err != nil {
		return err
	}
	return printJSON(w, document)
}

// messageJSON is the canonical JSON of a message, with the field names of the .proto file and
// with every field, so that a program finds what it looks for also when it is zero.
func messageJSON(message proto.Message) (json.RawMessage, error) {
	document, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encoding the answer as JSON: %w", err)
	}
	return document, nil
}

// printJSON writes one indented document. Indenting also takes out the blanks that protojson
// strews in at random.
func printJSON(w io.Writer, value any) error {
	var document bytes.Buffer
	encoder := json.NewEncoder(&document)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("encoding the answer as JSON: %w", err)
	}
	if _, err := w.Write(document.Bytes()); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

// printTable aligns the rows that fill writes.
func printTable(w io.Writer, fill func(*tabwriter.Writer)) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fill(table)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

// row writes one line of a table. An empty cell becomes "-", so that columns can be counted.
func row(table *tabwriter.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		if texts[i] = printable(fmt.Sprint(cell)); texts[i] == "" {
			texts[i] = "-"
		}
	}
	// The writer keeps its first error for Flush.
	fmt.Fprintln(table, strings.Join(texts, "\t"))
}

// printable keeps text on its line and control sequences away from the terminal: reasons and
// messages come from elsewhere.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		default:
			return r
		}
	}, strings.TrimSpace(text))
}

// ago is the age of something in its largest unit, or never for a time that is not set.
func ago(now time.Time, then *timestamppb.Timestamp) string {
	if then == nil {
		return "never"
	}
	// Clocks differ between machines: what lies ahead of ours has just happened.
	age := max(now.Sub(then.AsTime()), 0)
	switch {
	case age < time.Minute:
		return fmt.Sprintf("%ds ago", age/time.Second)
	case age < time.Hour:
		return fmt.Sprintf("%dm ago", age/time.Minute)
	case age < 48*time.Hour:
		return fmt.Sprintf("%dh ago", age/time.Hour)
	default:
		return fmt.Sprintf("%dd ago", age/(24*time.Hour))
	}
}

// moment is a time in full with its age, or empty for a time that is not set.
func moment(now time.Time, then *timestamppb.Timestamp) string {
	if then == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s)", then.AsTime().Format(time.RFC3339), ago(now, then))
}

// loadPercent renders a load, of which 1 is full.
func loadPercent(load float64) string { return fmt.Sprintf("%.0f%%", load*100) }

// measuredPercent renders a percentage of which 0 means that nobody measured it.
func measuredPercent(percent float32) string {
	if percent == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f%%", percent)
}

// usedOf renders how much of a capacity is taken.
func usedOf(used, capacity uint32) string { return fmt.Sprintf("%d/%d", used, capacity) }

// lowercase renders an enum value, as in healthy or primary.
func lowercase(value fmt.Stringer) string { return strings.ToLower(value.String()) }
