package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

// snapshot is what these commands read of a snapshot.
type snapshot struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Status      string    `json:"status"`
	Size        int64     `json:"size"`
	VolumeID    string    `json:"volume_id"`
	Description string    `json:"description"`
	CreatedAt   timestamp `json:"created_at"`
	// Operation is the one that makes it, if that was not waited for.
	Operation string `json:"operation,omitempty"`
}

func snapshotCommand() *cobra.Command {
	return group("snapshot", "Create, show and delete snapshots",
		snapshotCreate(), snapshotList(), snapshotShow(), snapshotDelete(), snapshotRename())
}

func snapshotCreate() *cobra.Command {
	var name, description string
	cmd := volumeID.one(&cobra.Command{Use: "create VOLUME", Short: "Keep a volume's content of this moment"})
	cmd.Flags().StringVar(&name, "name", "", "name")
	cmd.Flags().StringVar(&description, "description", "", "description")
	return withClient(starts(cmd), func(ctx context.Context, s *session, args []string) error {
		in := map[string]any{"volume_id": args[0], "name": name, "description": description}
		var out struct{ Snapshot snapshot }
		header, err := s.call(ctx, http.MethodPost, s.volumeAPI("snapshots"), map[string]any{"snapshot": in}, &out)
		if err != nil {
			return err
		}
		if err := s.settled(ctx, header); err != nil {
			return err
		}
		return s.showSnapshot(ctx, out.Snapshot.ID)
	})
}

func snapshotList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List snapshots", Args: cobra.NoArgs}
	limit := limitFlag(cmd)
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		snapshots, err := listAll(ctx, s, s.volumeAPI("snapshots", "detail"), url.Values{}, "snapshots", *limit, func(v snapshot) string { return v.ID })
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(snapshots)
		}
		rows := make([][]string, 0, len(snapshots))
		for _, v := range snapshots {
			rows = append(rows, []string{v.ID, shortName(v.Name), v.Status, fmt.Sprintf("%d GiB", v.Size), v.VolumeID, age(v.CreatedAt.Time)})
		}
		return s.table([]string{"ID", "NAME", "STATUS", "SIZE", "VOLUME", "AGE"}, rows)
	})
}

func snapshotShow() *cobra.Command {
	cmd := snapshotID.one(&cobra.Command{Use: "show SNAPSHOT", Short: "Show a snapshot"})
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error { return s.showSnapshot(ctx, args[0]) })
}

func (s *session) snapshotPath(id string) string { return s.volumeAPI("snapshots", id) }

func (s *session) showSnapshot(ctx context.Context, id string) error {
	var out struct{ Snapshot snapshot }
	if _, err := s.call(ctx, http.MethodGet, s.snapshotPath(id), nil, &out); err != nil {
		return err
	}
	if out.Snapshot.ID == "" {
		return s.noSuchAnswer("snapshot")
	}
	v := out.Snapshot
	v.Operation = s.accepted
	if s.asJSON {
		return s.json(v)
	}
	return s.fields([][]string{{"id", v.ID}, {"name", orDash(v.Name)}, {"status", v.Status}, {"size", fmt.Sprintf("%d GiB", v.Size)},
		{"volume", v.VolumeID}, {"age", age(v.CreatedAt.Time)}})
}

func snapshotDelete() *cobra.Command {
	cmd := snapshotID.many(&cobra.Command{Use: "delete SNAPSHOT…", Short: "Delete snapshots; volumes made from them stay"})
	return withClient(starts(cmd), func(ctx context.Context, s *session, args []string) error {
		return s.each(ctx, args, http.MethodDelete, s.snapshotPath, nil)
	})
}

func snapshotRename() *cobra.Command {
	var name, description string
	cmd := snapshotID.one(&cobra.Command{Use: "set SNAPSHOT", Short: "Change the name or the description of a snapshot"})
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&description, "description", "", "new description")
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		return rename[snapshot](ctx, s, cmd, "snapshot", s.snapshotPath(args[0]))
	})
}
