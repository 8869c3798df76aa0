package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func volumeAttach() *cobra.Command {
	var readOnly bool
	cmd := volumeID.one(&cobra.Command{
		Use: "attach VOLUME", Short: "Export a volume to this host and print its NBD URI",
		Example: "  qemu-img info \"$(scoria volume attach ID)\"",
	})
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "the host may only read")
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		mode := "rw"
		if readOnly {
			mode = "ro"
		}
		a, err := s.attach(ctx, args[0], mode)
		if err != nil {
			return err
		}
		uri := a.ConnectionInfo.uri()
		if s.asJSON {
			return s.json(map[string]string{"attachment": a.ID, "uri": uri})
		}
		writeLine(s.progress, "attachment %s; end it with `scoria volume detach %s`", a.ID, a.ID)
		writeLine(s.out, "%s", uri)
		return nil
	})
}

// attach reserves the volume under an ID of its own choice, so that it is known whatever becomes of the answers, exports it to this host, and says that
// the host uses it. What was refused leaves nothing behind.
func (s *session) attach(ctx context.Context, volume, mode string) (attachment, error) {
	host, err := os.Hostname()
	if err != nil {
		return attachment{}, err
	}
	id := uuid.NewString()
	in := map[string]any{"volume_uuid": volume, "mode": mode}
	// The ID of a reservation is its idempotency key.
	_, err = s.callWith(ctx, http.Header{"Idempotency-Key": {id}}, http.MethodPost, s.volumeAPI("attachments"), map[string]any{"attachment": in}, nil)
	if err != nil && s.refused(ctx, err) {
		return attachment{}, err
	}
	if err != nil {
		return attachment{}, s.mayBeLeft(ctx, id, volume, err)
	}
	var out struct{ Attachment attachment }
	in = map[string]any{"connector": map[string]any{"host": host, "mode": mode}}
	_, err = s.call(ctx, http.MethodPut, s.volumeAPI("attachments", id), map[string]any{"attachment": in}, &out)
	if err == nil {
		_, err = s.call(ctx, http.MethodPost, s.volumeAPI("attachments", id, "action"), map[string]any{"os-complete": map[string]any{}}, nil)
	}
	if err != nil {
		return attachment{}, s.giveBack(ctx, id, volume, err)
	}
	out.Attachment.ID = id
	return out.Attachment, nil
}

// refused reports whether err says for certain that what was asked for was not done and will not be.
func (s *session) refused(ctx context.Context, err error) bool {
	answer, ok := errors.AsType[*apiError](err)
	if !ok {
		return false
	}
	if answer.status < http.StatusInternalServerError || answer.status == http.StatusNotImplemented {
		return true
	}
	if answer.operation == "" {
		return false
	}
	op, err := s.operation(ctx, answer.operation)
	return err == nil && op.Ended && op.Phase != phaseDone
}

// giveBackLimit bounds the removal of an attachment: it waits for the end of its operation.
const giveBackLimit = 90 * time.Second

// giveBack removes the attachment if its volume cannot be used through it for certain, and returns err, with what is left.
func (s *session) giveBack(ctx context.Context, id, volume string, err error) error {
	if !s.refused(ctx, err) {
		return s.mayBeLeft(ctx, id, volume, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackLimit)
	defer cancel()
	_, left := s.call(ctx, http.MethodDelete, s.volumeAPI("attachments", id), nil, nil)
	if left != nil && !hasStatus(left, http.StatusNotFound) {
		return s.mayBeLeft(ctx, id, volume, fmt.Errorf("%w; and it could not be removed: %w", err, left))
	}
	return err
}

// askLimit bounds the question whether an attachment is left.
const askLimit = 2 * time.Second

// mayBeLeft asks for the attachment of an attach that failed, and returns err with what is known of it. A request that was not answered may
// be on its way still.
func (s *session) mayBeLeft(ctx context.Context, id, volume string, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLimit)
	defer cancel()
	var out struct{ Attachment attachment }
	_, asked := s.call(ctx, http.MethodGet, s.volumeAPI("attachments", id), nil, &out)
	_, answered := errors.AsType[*apiError](err)
	left := "may be left, and then the volume is not available"
	switch {
	case asked == nil:
		left = "is left, " + out.Attachment.Status + ", and the volume is not available"
	case answered && hasStatus(asked, http.StatusNotFound):
		return fmt.Errorf("%w; no attachment was there when asked a moment later", err)
	}
	return fmt.Errorf("%w; attachment %s of volume %s %s: end it with `scoria volume detach %s` before you attach again", err, id, volume, left, id)
}

func volumeDetach() *cobra.Command {
	cmd := attachmentID.many(&cobra.Command{Use: "detach ATTACHMENT…", Short: "Cut the host off and end the attachment"})
	return withClient(canWait(cmd), func(ctx context.Context, s *session, args []string) error {
		return s.each(ctx, args, http.MethodDelete, func(id string) string { return s.volumeAPI("attachments", id) }, nil)
	})
}
