package envoymodule

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/keystore"
	"extauthz/polltest"
)

// A backend decides by a function.
type backend struct {
	checker *check.Checker
	panics  atomic.Int32
	closed  chan struct{}
}

func (b *backend) Checker() *check.Checker {
	if b.checker == nil {
		panic("no checker")
	}
	return b.checker
}

func (b *backend) Patience() time.Duration { return time.Minute }
func (b *backend) ReportPanic(error)       { b.panics.Add(1) }
func (b *backend) Close()                  { close(b.closed) }

type decides func(context.Context, authz.Request) (authz.Decision, error)

func (d decides) Authorize(ctx context.Context, r authz.Request) (authz.Decision, error) {
	return d(ctx, r)
}

func newBackend(t testing.TB, d decides) *backend {
	t.Helper()
	c, err := check.New(check.Config{Authorizer: d})
	if err != nil {
		t.Fatal(err)
	}
	return &backend{checker: c, closed: make(chan struct{})}
}

var valid = authz.Decision{Code: authz.Valid, Key: &keystore.Key{ID: "key_a"}}

// A stream keeps its answer.
type stream struct {
	none   bool // it cannot wait
	answer chan Reply
}

func (s *stream) Suspend() Suspended {
	if s.none {
		return nil
	}
	return s
}

func (s *stream) Resume(r *Reply) {
	own := *r // its slices are reused
	own.Body = append([]byte(nil), r.Body...)
	s.answer <- own
}

func newCall(headers ...string) *Call {
	c := NewCall()
	for i := 0; i < len(headers); i += 2 {
		c.AddHeader(headers[i], headers[i+1])
	}
	return c
}

func TestAnswersAtOnce(t *testing.T) {
	f := newFilter("", newBackend(t, func(_ context.Context, r authz.Request) (authz.Decision, error) {
		if r.Secret == "good" {
			return valid, nil
		}
		return authz.Decision{Code: authz.NotFound}, nil
	}))
	c := newCall(":method", "GET", ":path", "/", "x-api-key", "good")
	if !f.Check(c, nil) || !c.Reply.Allowed || len(c.Reply.Remove) == 0 || len(c.Reply.Set) == 0 {
		t.Errorf("got %+v", c.Reply)
	}
	c.Release()
	c = newCall(":method", "GET", ":path", "/", "x-api-key", "bad", "x-request-id", "id-1")
	if !f.Check(c, nil) || c.Reply.Allowed || c.Reply.Status != 401 || c.Reply.Details != detailsDenied || !strings.Contains(string(c.Reply.Body), "id-1") {
		t.Errorf("got %+v", c.Reply)
	}
	c.Release()
}

// A miss is looked up in the background, with memory of its own.
func TestWaits(t *testing.T) {
	var seen []string
	f := newFilter("", newBackend(t, func(ctx context.Context, r authz.Request) (authz.Decision, error) {
		if r.NoWait {
			return authz.Decision{}, keystore.ErrNotInMemory
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("no deadline")
		}
		seen = append(seen, string(r.Secret)+" "+r.ClientAddr.String())
		return valid, nil
	}))
	buffer := []byte("secret192.0.2.1:80")
	c := NewCall()
	c.AddHeader(":path", "/")
	c.AddHeader("x-api-key", string(buffer[:6]))
	c.SetPeer(string(buffer[6:]))
	s := &stream{answer: make(chan Reply, 1)}
	if f.Check(c, s) {
		t.Fatalf("answered %+v", c.Reply)
	}
	c.Release()
	clear(buffer)
	if r := <-s.answer; !r.Allowed || len(seen) != 1 || seen[0] != "secret 192.0.2.1" {
		t.Errorf("got %+v, seen %q", r, seen)
	}
}

// Where too many wait already, or the stream cannot, the request is refused at once.
func TestCannotWait(t *testing.T) {
	release := make(chan struct{})
	b := newBackend(t, func(ctx context.Context, r authz.Request) (authz.Decision, error) {
		if r.NoWait {
			return authz.Decision{}, keystore.ErrNotInMemory
		}
		<-release
		return valid, ctx.Err()
	})
	f := newFilter("", b)
	s := &stream{answer: make(chan Reply, MaxWaiting)}
	for range MaxWaiting {
		c := newCall("x-api-key", "s")
		if f.Check(c, s) {
			t.Fatal("answered before there are too many")
		}
		c.Release()
	}
	refused := func(s Stream) {
		t.Helper()
		c := newCall("x-api-key", "s")
		defer c.Release()
		if !f.Check(c, s) || c.Reply.Allowed || c.Reply.Status != 503 || c.Reply.Details != detailsError || !strings.Contains(string(c.Reply.Body), "UNAVAILABLE") {
			t.Errorf("got %+v", c.Reply)
		}
	}
	refused(s)
	close(release)
	for range MaxWaiting {
		if r := <-s.answer; !r.Allowed {
			t.Errorf("got %+v", r)
		}
	}
	refused(&stream{none: true})
}

// A panic refuses, at once or later.
func TestPanics(t *testing.T) {
	for _, later := range []bool{false, true} {
		f := newFilter("", newBackend(t, func(_ context.Context, r authz.Request) (authz.Decision, error) {
			if r.NoWait && later {
				return authz.Decision{}, keystore.ErrNotInMemory
			}
			panic("boom")
		}))
		c, s := newCall("x-api-key", "s"), &stream{answer: make(chan Reply, 1)}
		r := &c.Reply
		if !f.Check(c, s) {
			answer := <-s.answer
			r = &answer
		}
		if r.Allowed || r.Status != 503 {
			t.Errorf("later %t: %+v", later, r)
		}
	}
	b := &backend{} // without a checker
	c := newCall("x-api-key", "s")
	if f := newFilter("", b); !f.Check(c, nil) || c.Reply.Allowed || c.Reply.Status != 503 || b.panics.Load() != 1 {
		t.Errorf("got %+v, %d panics", c.Reply, b.panics.Load())
	}
}

// A panic while a stream is resumed is reported, and does not end the process.
func TestPanicInResume(t *testing.T) {
	b := newBackend(t, func(_ context.Context, r authz.Request) (authz.Decision, error) {
		if r.NoWait {
			return authz.Decision{}, keystore.ErrNotInMemory
		}
		return valid, nil
	})
	f := newFilter("", b)
	if c := newCall("x-api-key", "s"); f.Check(c, panickingStream{}) {
		t.Fatalf("answered %+v", c.Reply)
	}
	polltest.Until(t, "the panic is reported", func() bool { return b.panics.Load() == 1 && len(f.waiting) == 0 })
}

type panickingStream struct{}

func (s panickingStream) Suspend() Suspended { return s }
func (panickingStream) Resume(*Reply)        { panic("boom") }

func TestSetPeer(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "192.0.2.1": "192.0.2.1", "192.0.2.1:0": "192.0.2.1",
		"[2001:db8::1]:443": "2001:db8::1", "2001:db8::1": "2001:db8::1", "[::ffff:192.0.2.1]:1": "::ffff:192.0.2.1",
		"": "", "/run/envoy.sock": "", "@abstract": "", "envoy://internal/id": "", ":80": "", "host:80": "", "[]:80": "",
	} {
		c := NewCall()
		if c.SetPeer(address); c.Peer != want {
			t.Errorf("%q: %q, want %q", address, c.Peer, want)
		}
		c.Release()
	}
}

func TestAddHeader(t *testing.T) {
	c := newCall(":authority", "a\xff", ":path", "/p\xff", ":method", "GET", ":scheme", "https", "x-a", "1", "x-a", "\xff2")
	defer c.Release()
	if joined, _ := c.Header("x-a"); c.Host != "a!" || c.Path != "/p!" || !c.PathCleaned || c.Method != "GET" || c.Scheme != "https" || joined != "1,!2" {
		t.Errorf("got %+v", c.Attributes)
	}
}

func TestParseRoute(t *testing.T) {
	r, err := ParseRoute(`{"permissions": "a", "ratelimits": ""}`)
	if err != nil || len(r.extensions) != 2 || r.extensions[0] != (check.Field{Name: "permissions", Value: "a"}) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, empty := range []string{"", " ", "{}"} {
		if r, err := ParseRoute(empty); err != nil || len(r.extensions) != 0 {
			t.Errorf("%q: %+v, %v", empty, r, err)
		}
	}
	for _, bad := range []string{"permissions: a", "[]", "null", `{"permissions": 1}`, `{"permissions": null}`, `{"a": "b"} x`, `{"a": {"b": "c"}}`} {
		if _, err := ParseRoute(bad); err == nil || !strings.Contains(err.Error(), "write") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Filters with the same configuration share what checks their requests.
func TestFilters(t *testing.T) {
	var started []Source
	bad := errors.New("bad")
	var last *backend
	s := Filters{Start: func(source Source) (Backend, error) {
		if source.Path == "bad" {
			return nil, bad
		}
		started = append(started, source)
		last = newBackend(t, nil)
		return last, nil
	}}
	open := func(config string) *Filter {
		t.Helper()
		f, err := s.Open(config)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, again := open("a.yaml"), open("a.yaml")
	shared := last
	other := open("{store: x}")
	if a != again || a == other || len(started) != 2 || started[0] != (Source{Path: "a.yaml"}) || started[1] != (Source{Text: "{store: x}"}) {
		t.Errorf("started %v", started)
	}
	if _, err := s.Open("bad"); !errors.Is(err, bad) {
		t.Errorf("bad: %v", err)
	}
	if _, err := s.Open(" \n"); !errors.Is(err, errNoSource) {
		t.Errorf("nothing: %v", err)
	}
	s.Close(a)
	select {
	case <-shared.closed:
		t.Error("closed while it is in use")
	default:
	}
	s.Close(again)
	s.Wait(time.Minute)
	<-shared.closed
	if open("a.yaml") == a {
		t.Error("a closed filter was opened again")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				s.Close(open("b.yaml"))
			}
		})
	}
	wg.Wait()
}
