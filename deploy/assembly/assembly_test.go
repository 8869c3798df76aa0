package assembly

import (
	"errors"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

func TestWhatIsSecretInAURLIsNotShown(t *testing.T) {
	t.Parallel()
	for urls, want := range map[string]string{
		"":                                "",
		"nats://127.0.0.1:4222":           "nats://127.0.0.1:4222",
		"nats://me:secret@host:4222":      "nats://xxxxx@host:4222",
		"nats://token@host":               "nats://xxxxx@host",
		"me:sec@ret@host":                 "xxxxx@host",
		"tls://a:secret@h1,nats://h2:422": "tls://xxxxx@h1,nats://h2:422",
	} {
		if got := Redacted(urls); got != want {
			t.Errorf("Redacted(%q) = %q, want %q", urls, got, want)
		}
	}
}

func TestAWrongNATSURLIsRefusedWithoutItsSecret(t *testing.T) {
	t.Parallel()
	for _, urls := range []string{"nats://me:secret@127.0.0.1:port", "nats://me:secret@127.0.0.1:1"} {
		err := APINode(t.Context(), APINodeConfig{NATS: urls})
		if err == nil {
			t.Fatalf("APINode(%q) ran", urls)
		}
		if text := err.Error(); !strings.Contains(text, "setting nats") || !strings.Contains(text, "xxxxx@127.0.0.1") || strings.Contains(text, "secret") {
			t.Errorf("APINode(%q) = %v, want the setting, the address and no secret", urls, err)
		}
	}
}

// What is wrong is refused before anything is connected to or made.
func TestSettingsAreCheckedFirst(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func() error{
		"data":        func() error { return Up(t.Context(), UpConfig{}) },
		"listen":      func() error { return Up(t.Context(), UpConfig{Data: t.TempDir(), Listen: "nonsense"}) },
		"nats-listen": func() error { return Up(t.Context(), UpConfig{Data: t.TempDir(), NATSListen: "127.0.0.1:99999"}) },
		"metrics": func() error {
			return VolumeNode(t.Context(), VolumeNodeConfig{NATS: "x", Volume: VolumeConfig{Name: "n1", State: t.TempDir(), Backends: []string{"a=null"}, Metrics: "x"}})
		},
		"backend": func() error {
			return VolumeNode(t.Context(), VolumeNodeConfig{NATS: "x", Volume: VolumeConfig{Name: "n1", State: t.TempDir(), Backends: []string{"tape"}}})
		},
		"nats":     func() error { return APINode(t.Context(), APINodeConfig{}) },
		"replicas": func() error { return APINode(t.Context(), APINodeConfig{NATS: "nats://127.0.0.1:1", Replicas: 2}) },
	} {
		err := run()
		setting, ok := errors.AsType[*SettingError](err)
		if !ok || setting.Name != name || setting.Want == "" || !IsSetting(err) {
			t.Errorf("%s: refused with %v, want a SettingError of that name that says what is wanted", name, err)
		}
	}
}

// A stream with three copies needs three servers: one that is alone says 10074.
func TestMoreReplicasThanServersAreRefusedInWords(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t).URL()
	for name, run := range map[string]func() error{
		"api-node": func() error {
			return APINode(t.Context(), APINodeConfig{NATS: url, Listen: "127.0.0.1:0", Metrics: "127.0.0.1:0", Replicas: 3})
		},
		"volume-node": func() error {
			return VolumeNode(t.Context(), VolumeNodeConfig{NATS: url, Replicas: 3, Volume: VolumeConfig{Name: "n1", State: t.TempDir(), Backends: []string{"a=null"}, Metrics: "127.0.0.1:0"}})
		},
	} {
		err := run()
		if SettingOf(err) != "replicas" || !strings.Contains(err.Error(), "--replicas 1") || strings.Contains(err.Error(), "10074") {
			t.Errorf("%s: %v, want what to do about the setting replicas", name, err)
		}
	}
}
