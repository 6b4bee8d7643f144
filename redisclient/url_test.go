package redisclient

import (
	"slices"
	"strings"
	"testing"

	"extauthz/redisclient/redistest"
)

func TestParseURL(t *testing.T) {
	for url, want := range map[string][]string{
		"redis://h":                                    {"h:6379"},
		"redis://u:p%40q@h:1/2":                        {"h:1"},
		"redis://a:1,b,c:3":                            {"a:1", "b:6379", "c:3"},
		"redis://a?addr=b:2":                           {"a:6379", "b:2"},
		"redis://:p@a,b:2/1?master_set=m":              {"a:26379", "b:2"},
		"rediss://[::1]":                               {"[::1]:6379"},
		"unix:///run/redis.sock":                       {"/run/redis.sock"},
		"unix:/run/redis.sock?db=1":                    {"/run/redis.sock"},
		"valkeys://h?skip_verify=true&dial_timeout=1s": {"h:6379"},
	} {
		o, err := parseURL(url)
		if err != nil || !slices.Equal(o.InitAddress, want) {
			t.Errorf("%s: %v, %v, want %v", url, o.InitAddress, err, want)
		}
	}
	if o, _ := parseURL("redis://u:p%40q@h:1/2"); o.Username != "u" || o.Password != "p@q" || o.SelectDB != 2 {
		t.Errorf("user %q, database %d", o.Username, o.SelectDB)
	}
	if o, _ := parseURL("rediss://a,b?master_set=m&sentinel_password=s"); o.Sentinel.TLSConfig == nil || o.Sentinel.Password != "s" || o.TLSConfig.ServerName != "" {
		t.Error("the sentinels are not spoken to as they should be")
	}
}

func TestMalformedURL(t *testing.T) {
	for url, why := range map[string]string{
		"":                                   "does not begin",
		"hunter2":                            "does not begin",
		"http://:hunter2@h":                  "does not begin",
		"redis://":                           "empty or malformed",
		"redis://:hunter2@":                  "empty or malformed",
		"redis://:hunter2@a,,b":              "empty or malformed",
		"redis://:hunter2/x@h":               "malformed",
		"redis://:a#hunter2@h":               "malformed",
		"redis://:a?hunter2@h":               "",
		"redis://:hunter2%zz@h":              "malformed",
		"redis://:x@h/hunter2":               "database",
		"redis://:x@h?dial_timeout=hunter2":  "dial_timeout",
		"redis://:x@h?hunter2=1":             "unknown parameter",
		"redis://:x@h?master_set=":           "master_set",
		"redis://:hunter2@a,b/1":             "cluster",
		"redis://:hunter2@h?ca_file=x":       "rediss://",
		"rediss://:hunter2@h?cert_file=x":    "write both",
		"rediss://:hunter2@h?ca_file=absent": "ca_file",
		"rediss://:hunter2@h?ca_file=":       "empty ca_file",
		"unix://:hunter2@h":                  "socket",
	} {
		c, err := Connect(t.Context(), url)
		if err == nil {
			c.Close()
			t.Errorf("%s: accepted", url)
			continue
		}
		if !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want %q and no password", url, err, why)
		}
	}
}

func TestPasswordNotShown(t *testing.T) {
	r := redistest.Start(t, "--requirepass", "correct")
	err := ping(t, connect(t, strings.Replace(r.URL(), "//", "//:hunter2@", 1)))
	if err == nil || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v; want WRONGPASS and no password", err)
	}
	if err := ping(t, connect(t, strings.Replace(r.URL(), "//", "//:correct@", 1))); err != nil {
		t.Error(err)
	}
}
