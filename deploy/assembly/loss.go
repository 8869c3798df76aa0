package assembly

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/deploy/embednats"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// acceptLoss is a file in the data directory that an operator makes to start on a damaged stream. It is good for one start.
const acceptLoss = "accept-loss"

// lossAdvice adds what to do to an error of a damaged stream.
func lossAdvice(d *dataDir, err error) error {
	if _, damaged := errors.AsType[*embednats.DamageError](err); !damaged {
		return err
	}
	return fmt.Errorf("the stream with all records is damaged: %w. What was acknowledged there would be lost, and older records would stand in for it, "+
		"so nothing was started or changed. Restore all of %s from a copy that was made while nothing ran; or, to go on without what is lost, "+
		"make the file %s (touch), start again, and look with `scoria verify` what fits no more", err, d.path, d.sub(acceptLoss))
}

// accepted says whether the operator has accepted a loss.
func (d *dataDir) accepted() bool {
	_, err := os.Lstat(d.sub(acceptLoss))
	return err == nil
}

// afterLoss begins a new era: revisions that were given are given again, and a fence made of them must be above those that the backends
// know. The acceptance ends with it.
func afterLoss(ctx context.Context, d *dataDir, srv *embednats.Server) error {
	nc, err := srv.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := raiseEra(ctx, js); err != nil {
		return fmt.Errorf("begin a new era after a loss: %w", err)
	}
	if err := os.Remove(d.sub(acceptLoss)); err != nil {
		return err
	}
	return d.sync() // or it would accept the next loss, too
}

func raiseEra(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.Stream(ctx, "KV_"+kvtx.DefaultBucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	cfg := stream.CachedInfo().Config
	era, err := kvlock.EraOf(cfg.Metadata)
	if err != nil {
		return err
	}
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	cfg.Metadata[kvlock.EraMetadata] = strconv.FormatUint(era+1, 10)
	_, err = js.UpdateStream(ctx, cfg)
	return err
}
