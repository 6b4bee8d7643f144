package redis

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"extauthz/usage"
)

// micros returns t in microseconds, 0 for the zero Time.
func micros(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.UnixMicro(), 10)
}

func parseTime(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n == 0 {
		return time.Time{}, err
	}
	return time.UnixMicro(n).UTC(), nil
}

// formatEntry returns the row without its key and network, in the form that add.lua reads.
func formatEntry(r *usage.Row) string {
	b := strconv.AppendInt(nil, int64(r.Day), 10)
	for _, n := range append([]uint64{r.Allowed, r.WouldRefuse}, r.Refused[:]...) {
		b = strconv.AppendUint(append(b, ' '), n, 10)
	}
	return string(b) + " " + micros(r.First) + " " + micros(r.Last)
}

// parseRows reads a field of a hash of networks.
func parseRows(id, network, value string) ([]usage.Row, error) {
	p, err := netip.ParsePrefix(network)
	if err != nil {
		return nil, errBadRecord
	}
	var rows []usage.Row
	for entry := range strings.SplitSeq(value, ";") {
		r := usage.Row{KeyID: id, Network: p}
		if err := parseEntry(&r, strings.Fields(entry)); err != nil {
			return nil, errBadRecord
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func parseEntry(r *usage.Row, numbers []string) (err error) {
	counts := 2 + len(r.Refused)
	if len(numbers) != 1+counts+2 {
		return errBadRecord
	}
	day, err := strconv.ParseInt(numbers[0], 10, 32)
	if err != nil {
		return err
	}
	r.Day = usage.Day(day)
	for i, s := range numbers[1 : 1+counts] {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return err
		}
		switch i {
		case 0:
			r.Allowed = n
		case 1:
			r.WouldRefuse = n
		default:
			r.Refused[i-2] = n
		}
	}
	if r.First, err = parseTime(numbers[1+counts]); err != nil {
		return err
	}
	r.Last, err = parseTime(numbers[2+counts])
	return err
}

// readSummary reads a summary's hash, and the last address if there is one. A key that was last used
// before the oldest time has none.
func readSummary(s *usage.Summary, oldest time.Time, hash, last rueidis.RedisResult) error {
	fields, err := hash.AsStrMap()
	if err != nil {
		return err
	}
	for name, t := range map[string]*time.Time{
		"last_used": &s.LastUsed, "last_current": &s.LastCurrent, "last_previous": &s.LastPrevious, "dropped": &s.Dropped,
	} {
		if v, ok := fields[name]; ok {
			if *t, err = parseTime(v); err != nil {
				return errBadRecord
			}
		}
	}
	network, err := last.ToString()
	switch {
	case rueidis.IsRedisNil(err):
		return nil
	case err != nil:
		return err
	case s.LastUsed.Before(oldest):
		return nil
	}
	if s.LastNetwork, err = netip.ParsePrefix(network); err != nil {
		return errBadRecord
	}
	return nil
}

// A rowName is a member of the set of refusals.
type rowName struct {
	id, network string
	day         usage.Day
}

func parseRowName(member string) (rowName, error) {
	parts := strings.Split(member, " ")
	if len(parts) != 3 {
		return rowName{}, errBadRecord
	}
	day, err := strconv.ParseInt(parts[2], 10, 32)
	if err != nil {
		return rowName{}, errBadRecord
	}
	return rowName{parts[0], parts[1], usage.Day(day)}, nil
}
