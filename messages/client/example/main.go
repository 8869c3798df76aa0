// Command example makes a volume, a snapshot of it and a clone of that as messages on NATS, and deletes them again.
//
//	go run ./messages/client/example nats://127.0.0.1:4222
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/client"
)

func main() {
	url := nats.DefaultURL
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, url, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url string, out io.Writer) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	scoria, err := client.New(nc, "demo", client.WithUser("example"))
	if err != nil {
		return err
	}
	// do submits a request, follows it to its end and returns the ID of what it made or changed.
	do := func(req messages.Request) (string, error) {
		op, err := scoria.Submit(ctx, client.NewID(), req)
		if err != nil {
			return "", err
		}
		if op, err = scoria.Watch(ctx, op.ID, func(messages.Operation) {}); err != nil {
			return "", err
		}
		fmt.Fprintf(out, "%s %s %s\n", op.Kind, op.Resource, op.Phase)
		if op.Phase != "done" {
			return "", fmt.Errorf("%s: %s", op.Kind, op.Error)
		}
		return op.Resource, nil
	}
	volume, err := do(&messages.CreateVolume{Name: "disk", SizeGiB: 1})
	if err != nil {
		return err
	}
	snapshot, err := do(&messages.CreateSnapshot{Volume: block.VolumeID(volume), Name: "before"})
	if err != nil {
		return err
	}
	clone, err := do(&messages.CreateVolume{Name: "copy", FromSnapshot: block.SnapshotID(snapshot)})
	if err != nil {
		return err
	}
	for _, req := range []messages.Request{
		&messages.DeleteSnapshot{Snapshot: block.SnapshotID(snapshot)},
		&messages.DeleteVolume{Volume: block.VolumeID(clone)},
		&messages.DeleteVolume{Volume: block.VolumeID(volume)},
	} {
		if _, err := do(req); err != nil {
			return err
		}
	}
	return nil
}
