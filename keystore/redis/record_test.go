package redis

import (
	"errors"
	"testing"

	"extauthz/keystore/storetest"
)

var anyHash = storetest.SecretOf("any").Hash()

func TestEncodeRefusesABrokenKey(t *testing.T) {
	k := storetest.NewKey("a")
	k.Broken = errors.New("not read whole")
	if record, err := encode(k); !errors.Is(err, k.Broken) {
		t.Errorf("%q, %v", record, err)
	}
}
