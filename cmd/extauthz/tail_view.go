package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// A decisionLine holds the fields of a line of the decision log that are shown.
type decisionLine struct {
	Type, Time, Since, Code, Owner, Method, Host, Path, Error string
	Dropped                                                   uint64
	Allowed, Stale                                            bool

	DryRun         bool   `json:"dry_run"`
	WouldRefuse    bool   `json:"would_refuse"`
	PreviousSecret bool   `json:"previous_secret"`
	KeyID          string `json:"key_id"`
	ClientAddress  string `json:"client_address"`
	AddressError   string `json:"client_address_error"`
	RouteError     string `json:"route_error"`
	RequestID      string `json:"request_id"`
	DurationNS     int64  `json:"duration_ns"`
}

// A tailView shows lines of a decision log in columns.
type tailView struct {
	out    io.Writer
	show   func(*decisionLine) bool
	search bool // show selects some decisions
	color  bool
}

const (
	plainText = "\x1b[0m"
	red       = "\x1b[31m"
	green     = "\x1b[32m"
	yellow    = "\x1b[33m"
	magenta   = "\x1b[35m"
)

// format returns the line in columns, or "" if it is not shown.
func (v *tailView) format(line []byte) string {
	var d decisionLine
	if json.Unmarshal(line, &d) != nil {
		return "" // a truncated line, or one of another log on the same standard output
	}
	switch d.Type {
	case "dropped":
		return v.colored(magenta, fmt.Sprintf("%s  %d decisions since %s have no line: the disk was too slow", localTime(d.Time), d.Dropped, localTime(d.Since))) + "\n"
	case "decision":
	default:
		return ""
	}
	if !v.show(&d) {
		return ""
	}
	address := d.ClientAddress
	if address == "" {
		address = "-"
	}
	columns := []string{
		localTime(d.Time),
		v.colored(colorOf(&d), pad(d.Code, 24)),
		pad(orDash(d.KeyID), 20),
		pad(address, 15),
		pad(time.Duration(d.DurationNS).Round(time.Microsecond).String(), 7),
		printable(d.Method + " " + d.Host + d.Path),
	}
	if notes := d.notes(); notes != "" {
		columns = append(columns, printable(notes))
	}
	return strings.Join(columns, "  ") + "\n"
}

func (d *decisionLine) notes() string {
	var notes []string
	for _, n := range []struct {
		on   bool
		text string
	}{
		{d.WouldRefuse, "would_refuse"},
		{d.DryRun, "dry_run"},
		{d.Stale, "stale"},
		{d.PreviousSecret, "previous_secret"},
		{d.RequestID != "", "request_id=" + d.RequestID},
		{d.AddressError != "", "no address: " + d.AddressError},
		{d.RouteError != "", "route: " + d.RouteError},
		{d.Error != "", "error: " + d.Error},
	} {
		if n.on {
			notes = append(notes, n.text)
		}
	}
	return strings.Join(notes, " ")
}

func colorOf(d *decisionLine) string {
	switch {
	case d.Code == "UNAVAILABLE":
		return magenta
	case d.Code == "VALID" && !d.WouldRefuse:
		return green
	case d.Code == "FORBIDDEN":
		return red
	}
	return yellow
}

func (v *tailView) colored(color, text string) string {
	if !v.color {
		return text
	}
	return color + text + plainText
}

func pad(s string, width int) string { return fmt.Sprintf("%-*s", width, printable(s)) }

// printable replaces characters that control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// localTime returns the time of a line in local time.
func localTime(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return printable(s)
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}
