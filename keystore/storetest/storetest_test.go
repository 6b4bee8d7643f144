package storetest

import "testing"

func TestMemory(t *testing.T) {
	open := func(*testing.T) Backend { return NewMemory() }
	Run(t, open)
	RunWatcher(t, open)
}
