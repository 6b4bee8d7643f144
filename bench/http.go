package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// httpConns is how many connections the load has to Envoy, each with one request at a time.
const httpConns = 32

// An httpLoad sends HTTP/1.1 requests to one Envoy.
type httpLoad struct {
	addr  string
	draw  func() string
	conns []*httpConn
}

func newHTTPLoad(addr string, draw func() string) (*httpLoad, error) {
	l := &httpLoad{addr: addr, draw: draw}
	for range httpConns {
		c, err := dialHTTP(addr)
		if err != nil {
			return nil, err
		}
		l.conns = append(l.conns, c)
	}
	return l, nil
}

type httpConn struct {
	net.Conn
	r       *bufio.Reader
	request []byte
}

func dialHTTP(addr string) (*httpConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &httpConn{Conn: c, r: bufio.NewReader(c)}, nil
}

const requestHead = "GET /v1/documents/17?fields=title HTTP/1.1\r\nhost: api.example\r\n" +
	"user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\naccept: application/json\r\n" +
	"accept-language: en-GB,en;q=0.5\r\naccept-encoding: gzip, deflate, br, zstd\r\nx-api-key: "

// get sends one request and returns the status of its answer, which it reads whole.
func (c *httpConn) get(secret string) (int, error) {
	c.request = append(append(append(c.request[:0], requestHead...), secret...), "\r\n\r\n"...)
	if _, err := c.Write(c.request); err != nil {
		return 0, err
	}
	status, length := 0, 0
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first && len(line) >= 12:
			status, err = strconv.Atoi(string(line[9:12]))
		case bytes.HasPrefix(line, []byte("content-length: ")):
			length, err = strconv.Atoi(string(line[16:]))
		case len(line) == 0:
			_, err = io.CopyN(io.Discard, c.r, int64(length))
			return status, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// run sends requests for the duration and returns the latency of each. At a rate of 0, each
// connection sends the next request immediately; otherwise they share the rate. The latency of a
// request that is delayed by the previous one is measured from when it was due.
func (l *httpLoad) run(ctx context.Context, d time.Duration, rate float64) ([]time.Duration, error) {
	return paced(ctx, httpConns, d, rate, func(_ context.Context, worker int) error {
		status, err := l.conns[worker].get(l.draw())
		if err == nil && status != 200 {
			err = fmt.Errorf("the answer is %d", status)
		}
		return err
	})
}

// paced has workers call at the rate for the duration, or until ctx ends, and returns the latency
// of each call.
func paced(ctx context.Context, workers int, d time.Duration, rate float64, call func(context.Context, int) error) ([]time.Duration, error) {
	took, errs := make([][]time.Duration, workers), make([]error, workers)
	began := time.Now()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			interval := time.Duration(0)
			if rate > 0 {
				interval = time.Duration(float64(workers) / rate * float64(time.Second))
			}
			due := began.Add(interval * time.Duration(w) / time.Duration(workers))
			for time.Since(began) < d && ctx.Err() == nil {
				start := time.Now()
				if rate > 0 {
					if wait := due.Sub(start); wait > 0 {
						time.Sleep(wait)
						start = time.Now() // a late timer is not the server's latency
					} else {
						start = due
					}
					due = due.Add(interval)
				}
				if err := call(ctx, w); err != nil {
					errs[w] = err
					return
				}
				took[w] = append(took[w], time.Since(start))
			}
		})
	}
	wg.Wait()
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	return all, errors.Join(errs...)
}
