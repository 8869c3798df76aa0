package cli

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// backend is one, with who serves it.
type backend struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Fencing   string `json:"fencing"`
	Node      string `json:"node,omitempty"`
	NodeID    string `json:"node_id,omitempty"`
	Reflink   bool   `json:"reflink"`
	KeepsData bool   `json:"keeps_data"`
	Zone      string `json:"zone"`
	Volumes   int    `json:"volumes"`
	Snapshots int    `json:"snapshots"`
	ServedBy  []struct {
		Node    string `json:"node"`
		Process string `json:"process"`
		Away    string `json:"away,omitempty"`
	} `json:"served_by"`
	Unknown string `json:"unknown,omitempty"`
}

func backendCommand() *cobra.Command {
	return group("backend", "Show where volumes are kept and who serves it, and forget a backend", backendList(), backendForget())
}

func backendList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List all backends, what stands on them, and which processes serve them now", Args: cobra.NoArgs}
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.backends(ctx)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(all)
		}
		rows := make([][]string, 0, len(all))
		for _, b := range all {
			rows = append(rows, []string{b.Name, b.Kind, b.Fencing, orDash(b.Node), strconv.Itoa(b.Volumes), strconv.Itoa(b.Snapshots), b.servers()})
		}
		return s.table([]string{"NAME", "KIND", "CLASS", "NODE", "VOLUMES", "SNAPSHOTS", "SERVED BY"}, rows)
	})
}

func (s *session) backends(ctx context.Context) ([]backend, error) {
	var out struct{ Backends []backend }
	_, err := s.call(ctx, http.MethodGet, ownAPI("backends"), nil, &out)
	return out.Backends, err
}

// servers says who serves the backend.
func (b *backend) servers() string {
	var all []string
	for _, p := range b.ServedBy {
		text := p.Process
		if p.Away != "" {
			text += " (waits for it: " + p.Away + ")"
		}
		all = append(all, text)
	}
	if b.Unknown != "" {
		all = append(all, "not known: "+b.Unknown)
	}
	if len(all) == 0 {
		return "nobody"
	}
	return strings.Join(all, ", ")
}

func backendForget() *cobra.Command {
	cmd := backendName.one(&cobra.Command{
		Use: "forget NAME", Short: "Forget a backend that no process serves and nothing stands on",
		Long: `Forget a backend, such as one that was started once by mistake: its name, the room that it had, and which storage it is.

It is refused while a process serves the backend, and while a volume, a snapshot or an operation that has not ended stands on it. Nothing
on its storage is touched. Whoever starts a volume node with that backend again registers it anew.`,
	})
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		if _, err := s.call(ctx, http.MethodDelete, ownAPI("backends", args[0]), nil, nil); err != nil {
			return err
		}
		if !s.asJSON {
			writeLine(s.out, "backend %s is forgotten", args[0])
		}
		return nil
	})
}

func offerBackends(ctx context.Context, s *session) ([]cobra.Completion, error) {
	all, err := s.backends(ctx)
	return offered(all, func(b backend) (string, string) { return b.Name, b.Kind + " " + b.servers() }), err
}
