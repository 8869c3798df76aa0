package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// volume is what these commands read of a volume.
type volume struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Status      string    `json:"status"`
	Size        int64     `json:"size"`
	SnapshotID  string    `json:"snapshot_id"`
	SourceVolID string    `json:"source_volid"`
	VolumeType  string    `json:"volume_type"`
	Description string    `json:"description"`
	CreatedAt   timestamp `json:"created_at"`
	// Attachments are those that hosts use; as `volume show` prints them, all that there are.
	Attachments []volumeAttachment `json:"attachments"`
	// Operation is the one that makes it, if that was not waited for.
	Operation string `json:"operation,omitempty"`
}

// volumeAttachment has a node and a status as `volume show` prints it.
type volumeAttachment struct {
	AttachmentID string `json:"attachment_id"`
	Node         string `json:"node,omitempty"`
	Status       string `json:"status,omitempty"`
}

// timestamp is a time of the Block Storage API: UTC without a zone.
type timestamp struct{ time.Time }

func (t *timestamp) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return err
	}
	t.Time, err = time.Parse("2006-01-02T15:04:05.999999", s)
	return err
}

func volumeCommand() *cobra.Command {
	return group("volume", "Create, show and change volumes",
		volumeCreate(), volumeList(), volumeShow(), volumeDelete(), volumeExtend(), volumeRevert(), volumeRename(), volumeAttach(), volumeDetach())
}

func volumeCreate() *cobra.Command {
	var size int64
	var name, description, snapshot, source, volumeType string
	cmd := &cobra.Command{
		Use: "create", Short: "Create a volume: empty, from a snapshot or from another volume", Args: cobra.NoArgs,
		Example: "  scoria volume create --size 1 --name data\n  scoria volume create --from-snapshot ID",
	}
	cmd.Flags().Int64Var(&size, "size", 0, "size in GiB (with a source: at least the source's, which is the default)")
	cmd.Flags().StringVar(&name, "name", "", "name")
	cmd.Flags().StringVar(&description, "description", "", "description")
	snapshotID.flag(cmd, &snapshot, "from-snapshot", "ID of the snapshot to create it from")
	volumeID.flag(cmd, &source, "from-volume", "ID of the volume to clone")
	cmd.Flags().StringVar(&volumeType, "type", "", "volume type")
	return withClient(starts(cmd), func(ctx context.Context, s *session, _ []string) error {
		if !cmd.Flags().Changed("size") && snapshot == "" && source == "" {
			return missing("size", "want a size in GiB, or what to make the volume from: --from-snapshot or --from-volume")
		}
		in := map[string]any{"name": name, "description": description}
		set(in, "snapshot_id", snapshot)
		set(in, "source_volid", source)
		set(in, "volume_type", volumeType)
		if cmd.Flags().Changed("size") {
			in["size"] = size
		}
		var out struct{ Volume volume }
		header, err := s.call(ctx, http.MethodPost, s.volumeAPI("volumes"), map[string]any{"volume": in}, &out)
		if err != nil {
			return err
		}
		if err := s.settled(ctx, header); err != nil {
			return err
		}
		return s.showVolume(ctx, out.Volume.ID)
	})
}

func set(m map[string]any, key, value string) {
	if value != "" {
		m[key] = value
	}
}

func volumeList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List volumes", Args: cobra.NoArgs}
	limit := limitFlag(cmd)
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		volumes, err := listAll(ctx, s, s.volumeAPI("volumes", "detail"), url.Values{}, "volumes", *limit, func(v volume) string { return v.ID })
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(volumes)
		}
		rows := make([][]string, 0, len(volumes))
		for _, v := range volumes {
			rows = append(rows, []string{v.ID, shortName(v.Name), v.Status, fmt.Sprintf("%d GiB", v.Size), age(v.CreatedAt.Time)})
		}
		return s.table([]string{"ID", "NAME", "STATUS", "SIZE", "AGE"}, rows)
	})
}

func volumeShow() *cobra.Command {
	cmd := volumeID.one(&cobra.Command{Use: "show VOLUME", Short: "Show a volume"})
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error { return s.showVolume(ctx, args[0]) })
}

func (s *session) showVolume(ctx context.Context, id string) error {
	var out struct{ Volume volume }
	if _, err := s.call(ctx, http.MethodGet, s.volumePath(id), nil, &out); err != nil {
		return err
	}
	if out.Volume.ID == "" {
		return s.noSuchAnswer("volume")
	}
	v := out.Volume
	v.Operation = s.accepted
	if err := s.addAttachments(ctx, &v); err != nil {
		return err
	}
	if s.asJSON {
		return s.json(v)
	}
	rows := [][]string{{"id", v.ID}, {"name", orDash(v.Name)}, {"status", v.Status}, {"size", fmt.Sprintf("%d GiB", v.Size)},
		{"type", v.VolumeType}, {"from snapshot", orDash(v.SnapshotID)}, {"from volume", orDash(v.SourceVolID)}, {"age", age(v.CreatedAt.Time)}}
	for _, a := range v.Attachments {
		text := a.AttachmentID + " " + a.Status
		if a.Node != "" {
			text += " on node " + a.Node
		}
		rows = append(rows, []string{"attachment", text})
	}
	return s.fields(rows)
}

// addAttachments replaces the volume's attachments by all that there are. The Block Storage API shows those that hosts use with a volume, and
// the others in a list of their own.
func (s *session) addAttachments(ctx context.Context, v *volume) error {
	all, err := s.attachments(ctx, v.ID, 0)
	if err != nil {
		return err
	}
	v.Attachments = make([]volumeAttachment, 0, len(all))
	for _, a := range all {
		v.Attachments = append(v.Attachments, volumeAttachment{a.ID, a.ConnectionInfo.Node, a.Status})
	}
	return nil
}

func (s *session) volumePath(id string) string    { return s.volumeAPI("volumes", id) }
func (s *session) volumeActions(id string) string { return s.volumeAPI("volumes", id, "action") }

func volumeDelete() *cobra.Command {
	cmd := volumeID.many(&cobra.Command{Use: "delete VOLUME…", Short: "Delete volumes"})
	return withClient(starts(cmd), func(ctx context.Context, s *session, args []string) error {
		return s.each(ctx, args, http.MethodDelete, s.volumePath, nil)
	})
}

func volumeExtend() *cobra.Command {
	var size int64
	cmd := volumeID.one(&cobra.Command{Use: "extend VOLUME --size GIB", Short: "Make a volume larger"})
	cmd.Flags().Int64Var(&size, "size", 0, "size to reach, in GiB")
	return withClient(starts(cmd), func(ctx context.Context, s *session, args []string) error {
		if !cmd.Flags().Changed("size") {
			return missing("size", "want the size to reach, in GiB")
		}
		return s.each(ctx, args, http.MethodPost, s.volumeActions, map[string]any{"os-extend": map[string]any{"new_size": size}})
	})
}

func volumeRevert() *cobra.Command {
	var snapshot string
	cmd := volumeID.one(&cobra.Command{Use: "revert VOLUME --snapshot ID", Short: "Set a volume back to its latest snapshot"})
	snapshotID.flag(cmd, &snapshot, "snapshot", "ID of the volume's latest snapshot")
	return withClient(starts(cmd), func(ctx context.Context, s *session, args []string) error {
		if snapshot == "" {
			return missing("snapshot", "want the ID of the volume's latest snapshot")
		}
		return s.each(ctx, args, http.MethodPost, s.volumeActions, map[string]any{"revert": map[string]any{"snapshot_id": snapshot}})
	})
}

func volumeRename() *cobra.Command {
	var name, description string
	cmd := volumeID.one(&cobra.Command{Use: "set VOLUME", Short: "Change the name or the description of a volume"})
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&description, "description", "", "new description")
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		return rename[volume](ctx, s, cmd, "volume", s.volumePath(args[0]))
	})
}

// rename sends those of name and description that were given. T is what these commands read of the thing.
func rename[T any](ctx context.Context, s *session, cmd *cobra.Command, what, path string) error {
	in := map[string]any{}
	for _, field := range []string{"name", "description"} {
		if cmd.Flags().Changed(field) {
			in[field], _ = cmd.Flags().GetString(field)
		}
	}
	if len(in) == 0 {
		return &usageError{errors.New("nothing to change: give --name or --description")}
	}
	var out map[string]T
	_, err := s.call(ctx, http.MethodPut, path, map[string]any{what: in}, &out)
	if err == nil && s.asJSON {
		err = s.json(out[what])
	}
	return err
}
