package assembly

import (
	"strings"
	"testing"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
)

// What to do about a server that keeps nothing is said.
func TestAServerWithoutJetStreamIsRefusedInWords(t *testing.T) {
	t.Parallel()
	guests := nats.NewAccount("guests")
	for name, c := range map[string]struct {
		opts *nats.Options
		want string
	}{
		"the server":  {&nats.Options{}, "jetstream { store_dir"},
		"the account": {&nats.Options{JetStream: true, StoreDir: t.TempDir(), Accounts: []*nats.Account{guests}, Users: []*nats.User{{Username: "me", Password: "secret", Account: guests}}}, "allow JetStream for the account"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.opts.Host, c.opts.Port, c.opts.NoSigs, c.opts.NoLog = "127.0.0.1", nats.RANDOM_PORT, true, true
			srv, err := nats.NewServer(c.opts)
			if err != nil {
				t.Fatal(err)
			}
			srv.Start()
			t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
			if !srv.ReadyForConnections(time.Minute) {
				t.Fatal("the server is not ready")
			}
			url := srv.ClientURL()
			if c.opts.Users != nil {
				url = strings.Replace(url, "nats://", "nats://me:secret@", 1)
			}
			err = APINode(t.Context(), APINodeConfig{NATS: url, Listen: "127.0.0.1:0", Metrics: "127.0.0.1:0"})
			if SettingOf(err) != "nats" || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("APINode = %v, want the setting nats and %q", err, c.want)
			}
		})
	}
}
