package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// attachment is what these commands read of an attachment.
type attachment struct {
	ID             string     `json:"id"`
	Status         string     `json:"status"`
	VolumeID       string     `json:"volume_id"`
	Instance       string     `json:"instance"`
	AttachMode     string     `json:"attach_mode"`
	AttachedAt     string     `json:"attached_at"`
	ConnectionInfo connection `json:"connection_info"`
}

// connection is how a host reaches the volume; empty before it is exported. Older answers have it under data.
type connection struct {
	URI  string `json:"uri"`
	Node string `json:"node"`
	Data *struct {
		URI string `json:"uri"`
	} `json:"data,omitempty"`
}

func (c connection) uri() string {
	if c.URI == "" && c.Data != nil {
		return c.Data.URI
	}
	return c.URI
}

// attached is when the host began to use it; zero: it does not.
func (a attachment) attached() time.Time {
	var t timestamp
	_ = t.UnmarshalJSON([]byte(strconv.Quote(a.AttachedAt)))
	return t.Time
}

func attachmentCommand() *cobra.Command {
	return group("attachment", "Show attachments, the ways of hosts to volumes; `scoria volume attach` and `detach` make and end them",
		attachmentList(), attachmentShow())
}

func attachmentList() *cobra.Command {
	var volume string
	cmd := &cobra.Command{Use: "list", Short: "List attachments, whatever their status", Args: cobra.NoArgs}
	volumeID.flag(cmd, &volume, "volume", "only those of this volume")
	limit := limitFlag(cmd)
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.attachments(ctx, volume, *limit)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(all)
		}
		rows := make([][]string, 0, len(all))
		for _, a := range all {
			rows = append(rows, []string{a.ID, a.Status, a.VolumeID, a.AttachMode, orDash(a.ConnectionInfo.Node), orDash(a.Instance)})
		}
		return s.table([]string{"ID", "STATUS", "VOLUME", "MODE", "NODE", "INSTANCE"}, rows)
	})
}

// attachments are those of the volume, or of all if it is "".
func (s *session) attachments(ctx context.Context, volume string, limit int) ([]attachment, error) {
	query := url.Values{}
	setQuery(query, "volume_id", volume)
	return listAll(ctx, s, s.volumeAPI("attachments", "detail"), query, "attachments", limit, func(a attachment) string { return a.ID })
}

func attachmentShow() *cobra.Command {
	cmd := attachmentID.one(&cobra.Command{Use: "show ATTACHMENT", Short: "Show an attachment"})
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		var out struct{ Attachment attachment }
		if _, err := s.call(ctx, http.MethodGet, s.volumeAPI("attachments", args[0]), nil, &out); err != nil {
			return err
		}
		a := out.Attachment
		if a.ID == "" {
			return s.noSuchAnswer("attachment")
		}
		if s.asJSON {
			return s.json(a)
		}
		return s.fields([][]string{{"id", a.ID}, {"status", a.Status}, {"volume", a.VolumeID}, {"mode", a.AttachMode}, {"attached", ago(a.attached())},
			{"instance", orDash(a.Instance)}, {"node", orDash(a.ConnectionInfo.Node)}, {"uri", orDash(a.ConnectionInfo.uri())}})
	})
}
