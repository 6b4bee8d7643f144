package envoymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"extauthz/check"
)

// A Route is what a route's configuration of the filter requires of keys. It is never changed.
type Route struct{ extensions []check.Field }

var errRoute = errors.New(`not what a route requires: write an object of strings, such as {"permissions": "documents.read"}`)

// ParseRoute reads the configuration of a route: a JSON object of strings, each of which has the name and
// the meaning of one of ext_authz's context_extensions. "" requires nothing.
func ParseRoute(config string) (*Route, error) {
	if len(bytes.TrimSpace([]byte(config))) == 0 {
		return new(Route), nil
	}
	d := json.NewDecoder(bytes.NewReader([]byte(config)))
	var fields map[string]*string
	if err := d.Decode(&fields); err != nil {
		return nil, fmt.Errorf("%w (%w)", errRoute, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || fields == nil {
		return nil, errRoute
	}
	r := new(Route)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if fields[name] == nil {
			return nil, fmt.Errorf("%s: %w", name, errRoute)
		}
		r.extensions = append(r.extensions, check.Field{Name: check.CleanUTF8(name), Value: check.CleanUTF8(*fields[name])})
	}
	return r, nil
}
