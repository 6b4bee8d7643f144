package dashboard

import (
	"fmt"
	"time"

	"extauthz/usage"
)

// A dayChart shows requests by day and outcome: a bar for each day, refused on top of allowed.
type dayChart struct {
	Bars        []dayBar
	First, Last usage.Day
	Most        uint64 // of one day
}

type dayBar struct {
	Day              usage.Day
	Allowed, Refused uint64

	// In the units of the drawing, which is 600 wide and 120 high.
	X, Width                   float64
	AllowedY, AllowedHeight    float64
	RefusedY, RefusedBarHeight float64
}

// Label is shown where the pointer rests on a bar, and read aloud.
func (b dayBar) Label() string {
	return fmt.Sprintf("%s: %d allowed, %d refused", b.Day, b.Allowed, b.Refused)
}

const (
	chartWidth  = 600.0
	chartHeight = 120.0
)

func newDayChart(u *usage.KeyUsage, since, now time.Time) dayChart {
	first, last := usage.DayOf(since), usage.DayOf(now)
	bars := make([]dayBar, last-first+1)
	for i := range bars {
		bars[i].Day = first + usage.Day(i)
	}
	for i := range u.Rows {
		r := &u.Rows[i]
		if r.Day < first || r.Day > last {
			continue
		}
		bars[r.Day-first].Allowed += r.Allowed
		bars[r.Day-first].Refused += r.RefusedTotal()
	}
	c := dayChart{Bars: bars, First: first, Last: last}
	for _, b := range bars {
		c.Most = max(c.Most, b.Allowed+b.Refused)
	}
	step := chartWidth / float64(len(bars))
	for i := range bars {
		b := &bars[i]
		b.X, b.Width = float64(i)*step+1, step-2
		b.AllowedHeight = scale(b.Allowed, c.Most)
		b.RefusedBarHeight = scale(b.Refused, c.Most)
		b.AllowedY = chartHeight - b.AllowedHeight
		b.RefusedY = b.AllowedY - b.RefusedBarHeight
	}
	return c
}

func scale(n, most uint64) float64 {
	if most == 0 {
		return 0
	}
	return chartHeight * float64(n) / float64(most)
}

// A topChart shows the addresses with the most requests.
type topChart struct{ Bars []topBar }

type topBar struct {
	Network          string
	Allowed, Refused uint64
	Y, BarY          int // of the label, and of the bar below it, in pixels

	AllowedWidth, RefusedWidth float64 // in percent of the drawing
}

const (
	topAddresses = 8
	topStep      = 38 // pixels from one label to the next
	topBarAt     = 19 // pixels from a label to its bar
)

// newTopChart returns the chart of addresses that are in order of their requests.
func newTopChart(used []usedFrom) topChart {
	var c topChart
	var most uint64
	for i, u := range used[:min(topAddresses, len(used))] {
		most = max(most, u.Allowed+u.Refused)
		c.Bars = append(c.Bars, topBar{Network: u.Network, Allowed: u.Allowed, Refused: u.Refused, Y: i * topStep, BarY: i*topStep + topBarAt})
	}
	for i := range c.Bars {
		b := &c.Bars[i]
		b.AllowedWidth = percent(b.Allowed, most)
		b.RefusedWidth = percent(b.Refused, most)
	}
	return c
}

func percent(n, most uint64) float64 { return 100 * float64(n) / float64(max(most, 1)) }

// Height returns the height of the drawing, in pixels.
func (c topChart) Height() int { return len(c.Bars) * topStep }
