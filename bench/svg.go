package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// bars is a bar chart.
type bars struct {
	title, unit string
	names       []string
	values      []float64
}

func (p *bars) add(name string, value float64) {
	p.names, p.values = append(p.names, name), append(p.values, value)
}

// svg draws the plot. extauthz has a different colour.
func (p *bars) svg() string {
	const left, row, wide = 330, 24, 430
	height := 50 + row*len(p.names)
	most := 0.0
	for _, v := range p.values {
		most = max(most, v)
	}
	var b strings.Builder
	head(&b, left+wide+90, height, p.title+", "+p.unit)
	for i, name := range p.names {
		y := 40 + i*row
		colour := "#8a8f98"
		if strings.HasPrefix(name, "extauthz") {
			colour = "#2563eb"
		}
		w := 0.0
		if most > 0 {
			w = p.values[i] / most * wide
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+13, html.EscapeString(name))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", left, y, w, row-7, colour)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", left+w+6, y+13, number(p.values[i]))
	}
	return b.String() + "</svg>\n"
}

func head(b *strings.Builder, width, height int, title string) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#1f2328">`+"\n", width, height)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	fmt.Fprintf(b, `<text x="12" y="22" font-size="14" font-weight="bold">%s</text>`+"\n", html.EscapeString(title))
}

// lines is a line chart of values over a count, on a logarithmic scale.
type lines struct {
	title, unit, over string
	names             []string
	points            [][][2]float64
}

func (p *lines) svg() string {
	const left, top, wide, high = 60, 40, 560, 260
	most, far := 0.0, 1.0
	for _, line := range p.points {
		for _, pt := range line {
			most, far = max(most, pt[1]), max(far, pt[0])
		}
	}
	most, decades := most*1.15, max(1, math.Log10(far))
	x := func(v float64) float64 { return left + math.Log10(max(1, v))/decades*wide }
	y := func(v float64) float64 { return top + high - v/most*high }
	var b strings.Builder
	head(&b, left+wide+190, top+high+50, p.title+", "+p.unit)
	for i := range 5 {
		v := most * float64(i) / 4
		fmt.Fprintf(&b, `<path d="M%d %.1fh%d" stroke="#d8dee4"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left, y(v), wide, left-6, y(v)+4, number(v))
	}
	for d := 0.0; d <= decades; d++ {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(math.Pow(10, d)), top+high+18, math.Pow(10, d))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", left+wide/2, top+high+38, html.EscapeString(p.over))
	for i, line := range p.points {
		colour := []string{"#2563eb", "#c2410c", "#15803d"}[i%3]
		var path strings.Builder
		for j, pt := range line {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], x(pt[0]), y(pt[1]))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(pt[0]), y(pt[1]), colour)
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), colour)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", left+wide+12, top+16*(i+1), colour, html.EscapeString(p.names[i]))
	}
	return b.String() + "</svg>\n"
}
