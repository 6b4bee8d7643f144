package strictyaml

import (
	"slices"
	"strings"
)

// suggest returns the name of the most similar field, or the names of all fields.
func suggest(name string, fields Fields) string {
	names := make([]string, 0, len(fields))
	best, bestDistance := "", 3
	for f := range fields {
		names = append(names, f)
		is, want := strings.ToLower(name), strings.ToLower(f)
		dist := distance(is, want)
		if len(name) > 3 && strings.Contains(want, is) {
			dist = min(dist, 2)
		}
		if dist < bestDistance || dist == bestDistance && f < best {
			best, bestDistance = f, dist
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	slices.Sort(names)
	return "the fields here are " + strings.Join(names, ", ")
}

// distance returns the edit distance of two strings: the number of characters to insert, delete or
// replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
