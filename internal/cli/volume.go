package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
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
	Attachments []struct {
		AttachmentID string `json:"attachment_id"`
		HostName     string `json:"host_name"`
	} `json:"attachments"`
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
	cmd.Flags().StringVar(&snapshot, "from-snapshot", "", "ID of the snapshot to create it from")
	cmd.Flags().StringVar(&source, "from-volume", "", "ID of the volume to clone")
	cmd.Flags().StringVar(&volumeType, "type", "", "volume type")
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		in := map[string]any{"name": name, "description": description}
		set(in, "snapshot_id", snapshot)
		set(in, "source_volid", source)
		set(in, "volume_type", volumeType)
		if size != 0 {
			in["size"] = size
		}
		var out struct{ Volume volume }
		header, err := s.call(ctx, http.MethodPost, s.volumeAPI("/volumes"), map[string]any{"volume": in}, &out)
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
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		var out struct{ Volumes []volume }
		if _, err := s.call(ctx, http.MethodGet, s.volumeAPI("/volumes/detail"), nil, &out); err != nil {
			return err
		}
		if s.asJSON {
			return s.json(out.Volumes)
		}
		rows := make([][]string, 0, len(out.Volumes))
		for _, v := range out.Volumes {
			rows = append(rows, []string{v.ID, orDash(v.Name), v.Status, fmt.Sprintf("%d GiB", v.Size), age(v.CreatedAt.Time)})
		}
		return s.table([]string{"ID", "NAME", "STATUS", "SIZE", "AGE"}, rows)
	})
}

func volumeShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show VOLUME", Short: "Show a volume", Args: cobra.ExactArgs(1)}
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error { return s.showVolume(ctx, args[0]) })
}

func (s *session) showVolume(ctx context.Context, id string) error {
	var out struct{ Volume volume }
	if _, err := s.call(ctx, http.MethodGet, s.volumeAPI("/volumes/%s", pathPart(id)), nil, &out); err != nil {
		return err
	}
	if s.asJSON {
		return s.json(out.Volume)
	}
	v := out.Volume
	rows := [][]string{{"id", v.ID}, {"name", orDash(v.Name)}, {"status", v.Status}, {"size", fmt.Sprintf("%d GiB", v.Size)},
		{"type", v.VolumeType}, {"from snapshot", orDash(v.SnapshotID)}, {"from volume", orDash(v.SourceVolID)}, {"age", age(v.CreatedAt.Time)}}
	for _, a := range v.Attachments {
		rows = append(rows, []string{"attachment", a.AttachmentID + " on " + orDash(a.HostName)})
	}
	return s.fields(rows)
}

func volumeDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete VOLUME…", Short: "Delete volumes", Args: cobra.MinimumNArgs(1)}
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		return s.each(ctx, args, http.MethodDelete, "/volumes/%s", nil)
	})
}

func volumeExtend() *cobra.Command {
	var size int64
	cmd := &cobra.Command{Use: "extend VOLUME --size GIB", Short: "Make a volume larger", Args: cobra.ExactArgs(1)}
	cmd.Flags().Int64Var(&size, "size", 0, "size to reach, in GiB")
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		if !cmd.Flags().Changed("size") {
			return missing("size", "want the size to reach, in GiB")
		}
		return s.each(ctx, args, http.MethodPost, "/volumes/%s/action", map[string]any{"os-extend": map[string]any{"new_size": size}})
	})
}

func volumeRevert() *cobra.Command {
	var snapshot string
	cmd := &cobra.Command{Use: "revert VOLUME --snapshot ID", Short: "Set a volume back to its latest snapshot", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&snapshot, "snapshot", "", "ID of the volume's latest snapshot")
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		if snapshot == "" {
			return missing("snapshot", "want the ID of the volume's latest snapshot")
		}
		return s.each(ctx, args, http.MethodPost, "/volumes/%s/action", map[string]any{"revert": map[string]any{"snapshot_id": snapshot}})
	})
}

func volumeRename() *cobra.Command {
	var name, description string
	cmd := &cobra.Command{Use: "set VOLUME", Short: "Change the name or the description of a volume", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&description, "description", "", "new description")
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		return s.rename(ctx, cmd, "volume", "/volumes/%s", args[0])
	})
}

// rename sends those of name and description that were given.
func (s *session) rename(ctx context.Context, cmd *cobra.Command, what, path, id string) error {
	in := map[string]any{}
	for _, field := range []string{"name", "description"} {
		if cmd.Flags().Changed(field) {
			in[field], _ = cmd.Flags().GetString(field)
		}
	}
	if len(in) == 0 {
		return &usageError{errors.New("nothing to change: give --name or --description")}
	}
	_, err := s.call(ctx, http.MethodPut, s.volumeAPI(path, pathPart(id)), map[string]any{what: in}, nil)
	return err
}

// attachment is what these commands read of an attachment.
type attachment struct {
	ID             string `json:"id"`
	Status         string `json:"status"`
	VolumeID       string `json:"volume_id"`
	ConnectionInfo struct {
		URI  string `json:"uri"`
		Data struct {
			URI string `json:"uri"`
		} `json:"data"`
	} `json:"connection_info"`
}

func volumeAttach() *cobra.Command {
	var readOnly bool
	cmd := &cobra.Command{
		Use: "attach VOLUME", Short: "Export a volume to this host and print its NBD URI", Args: cobra.ExactArgs(1),
		Example: "  qemu-img info \"$(scoria volume attach ID)\"",
	}
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "the host may only read")
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		mode := "rw"
		if readOnly {
			mode = "ro"
		}
		in := map[string]any{"volume_uuid": args[0], "mode": mode, "connector": map[string]any{"host": host, "mode": mode}}
		var out struct{ Attachment attachment }
		if _, err := s.call(ctx, http.MethodPost, s.volumeAPI("/attachments"), map[string]any{"attachment": in}, &out); err != nil {
			return err
		}
		a := out.Attachment
		path := s.volumeAPI("/attachments/%s/action", a.ID)
		if _, err := s.call(ctx, http.MethodPost, path, map[string]any{"os-complete": map[string]any{}}, nil); err != nil {
			return err
		}
		uri := a.ConnectionInfo.URI
		if uri == "" {
			uri = a.ConnectionInfo.Data.URI
		}
		if s.asJSON {
			return s.json(map[string]string{"attachment": a.ID, "uri": uri})
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "attachment %s; end it with `scoria volume detach %s`\n", a.ID, a.ID)
		_, err = fmt.Fprintln(s.out, uri)
		return err
	})
}

func volumeDetach() *cobra.Command {
	cmd := &cobra.Command{Use: "detach ATTACHMENT…", Short: "Cut the host off and end the attachment", Args: cobra.MinimumNArgs(1)}
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		for _, id := range args {
			if _, err := s.call(ctx, http.MethodDelete, s.volumeAPI("/attachments/%s", pathPart(id)), nil, nil); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
		}
		return nil
	})
}
