package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// step does one thing that is possible now.
func (k *tenant) step(ctx context.Context) error {
	const most = 4
	if len(k.disks) == 0 || len(k.disks) < most && k.rnd.IntN(3) == 0 {
		return k.create(ctx)
	}
	d := k.disks[k.rnd.IntN(len(k.disks))]
	if d.host != nil {
		return k.stepAttached(ctx, d)
	}
	switch n := k.rnd.IntN(12); {
	case n < 2:
		return k.attach(ctx, d)
	case n < 4:
		return k.snapshot(ctx, d)
	case n < 5 && d.gib < 4:
		return k.extend(ctx, d)
	case n < 6 && len(d.shots) > 0:
		return k.revert(ctx, d)
	case n < 8 && len(d.shots) > 0:
		return k.deleteShot(ctx, d)
	case n < 9:
		return k.delete(ctx, d)
	case n < 10 && len(k.disks) < most:
		return k.burst(ctx, d)
	}
	return k.write(ctx, d)
}

func (k *tenant) stepAttached(ctx context.Context, d *disk) error {
	switch n := k.rnd.IntN(8); {
	case n < 2:
		return k.detach(ctx, d)
	case n < 3 && k.c.reflink:
		return k.snapshot(ctx, d)
	case n < 3:
		return k.refused(ctx, http.StatusBadRequest, http.MethodPost, "/snapshots", M{"snapshot": M{"volume_id": d.id}})
	case n < 4:
		return k.refused(ctx, http.StatusBadRequest, http.MethodDelete, "/volumes/"+d.id, nil)
	}
	return k.write(ctx, d)
}

// blocks are some blocks of the first GiB, and the last one of the volume.
func (k *tenant) blocks(gib int64) harness.Content {
	blocks := harness.Content{}
	for range 1 + k.rnd.IntN(4) {
		blocks[k.rnd.Int64N(1<<30/harness.BlockBytes)] = k.rnd.Uint64() | 1
	}
	if k.rnd.IntN(2) == 0 {
		blocks[gib<<30/harness.BlockBytes-1] = k.rnd.Uint64() | 1
	}
	return blocks
}

// write writes as a host does, or into the file of a volume that nobody has attached.
func (k *tenant) write(ctx context.Context, d *disk) error {
	blocks := k.blocks(d.gib)
	var err error
	if d.host != nil {
		err = k.writeAttached(ctx, d, blocks)
	} else {
		err = harness.WriteContent(k.c.file("volumes", d.id), blocks)
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", d.id, err)
	}
	for n, tag := range blocks {
		d.content[n] = tag
	}
	return nil
}

// writeAttached writes through the export, which answers whatever happens to its nodes. If the export server may be
// killed, too, the host connects again under the same URI.
func (k *tenant) writeAttached(ctx context.Context, d *disk, blocks harness.Content) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := d.host.Write(blocks)
		if err == nil || !k.c.exportsToo || !errors.Is(err, harness.ErrConnection) || ctx.Err() != nil {
			return err
		}
		pauseBriefly(ctx)
	}
}

// create makes a volume: empty, from a snapshot or from a volume, its own or everybody's.
func (k *tenant) create(ctx context.Context) error {
	fields, d := k.source()
	return k.createWith(ctx, fields, d)
}

func (k *tenant) source() (M, *disk) {
	d := &disk{gib: 1 + k.rnd.Int64N(2), content: harness.Content{}}
	var shots []*shot
	var disks []*disk
	for _, o := range k.disks {
		shots = append(shots, o.shots...)
		if o.host == nil || k.c.reflink {
			disks = append(disks, o)
		}
	}
	switch k.rnd.IntN(4) {
	case 0:
		s := k.shared
		if len(shots) > 0 && k.rnd.IntN(3) > 0 {
			s = shots[k.rnd.IntN(len(shots))]
		}
		d.gib, d.content = max(s.gib, d.gib), s.content.Clone()
		return M{"size": d.gib, "snapshot_id": s.id}, d
	case 1:
		o := k.golden
		if len(disks) > 0 && k.rnd.IntN(3) > 0 {
			o = disks[k.rnd.IntN(len(disks))]
		}
		d.gib, d.content = max(o.gib, d.gib), o.content.Clone()
		return M{"size": d.gib, "source_volid": o.id}, d
	}
	return M{"size": d.gib}, d
}

func (k *tenant) createWith(ctx context.Context, fields M, d *disk) error {
	ans, err := k.begin(ctx, http.MethodPost, "/volumes", M{"volume": fields}, nil)
	if err != nil {
		return err
	}
	d.id = idOf(ans.Body)
	if err := k.visible(ctx, "/volumes/"+d.id); err != nil {
		return err
	}
	if err := k.end(ctx, ans); err != nil {
		return err
	}
	k.disks = append(k.disks, d)
	return k.c.check("volumes", d.id, d.gib, d.content)
}

// visible proves that what was accepted is there for its creator.
func (k *tenant) visible(ctx context.Context, path string) error {
	ans, err := k.c.Do(ctx, http.MethodGet, path, nil)
	if err == nil && ans.Status != http.StatusOK && ans.Status != http.StatusServiceUnavailable {
		return fmt.Errorf("GET %s after it was accepted: %d: %s", path, ans.Status, ans.Body)
	}
	return nil // or it was killed meanwhile
}

func (k *tenant) delete(ctx context.Context, d *disk) error {
	path := "/volumes/" + d.id
	if len(d.shots) > 0 {
		return k.refused(ctx, http.StatusBadRequest, http.MethodDelete, path, nil)
	}
	ans, err := k.begin(ctx, http.MethodDelete, path, nil, nil)
	if err != nil {
		return err
	}
	k.disks = slices.DeleteFunc(k.disks, func(o *disk) bool { return o == d })
	k.gone = append(k.gone, path)
	return k.end(ctx, ans)
}

func (k *tenant) extend(ctx context.Context, d *disk) error {
	ans, err := k.begin(ctx, http.MethodPost, "/volumes/"+d.id+"/action", M{"os-extend": M{"new_size": d.gib + 1}}, nil)
	if err != nil {
		return err
	}
	if err := k.end(ctx, ans); err != nil {
		return err
	}
	d.gib++
	return k.c.check("volumes", d.id, d.gib, d.content)
}

func (k *tenant) snapshot(ctx context.Context, d *disk) error {
	ans, err := k.begin(ctx, http.MethodPost, "/snapshots", M{"snapshot": M{"volume_id": d.id}}, nil)
	if err != nil {
		return err
	}
	s := &shot{id: idOf(ans.Body), volume: d.id, gib: d.gib, content: d.content.Clone()}
	if err := k.visible(ctx, "/snapshots/"+s.id); err != nil {
		return err
	}
	if err := k.end(ctx, ans); err != nil {
		return err
	}
	d.shots = append(d.shots, s)
	return k.c.check("snapshots", s.id, s.gib, s.content)
}

func (k *tenant) deleteShot(ctx context.Context, d *disk) error {
	i := k.rnd.IntN(len(d.shots))
	path := "/snapshots/" + d.shots[i].id
	ans, err := k.begin(ctx, http.MethodDelete, path, nil, nil)
	if err != nil {
		return err
	}
	d.shots = slices.Delete(d.shots, i, i+1)
	k.gone = append(k.gone, path)
	return k.end(ctx, ans)
}

// revert goes back to the latest snapshot; it is refused if the volume has grown since.
func (k *tenant) revert(ctx context.Context, d *disk) error {
	s := d.shots[len(d.shots)-1]
	path, body := "/volumes/"+d.id+"/action", M{"revert": M{"snapshot_id": s.id}}
	if s.gib != d.gib {
		return k.refused(ctx, http.StatusBadRequest, http.MethodPost, path, body)
	}
	ans, err := k.begin(ctx, http.MethodPost, path, body, nil)
	if err != nil {
		return err
	}
	if err := k.end(ctx, ans); err != nil {
		return err
	}
	d.content = s.content.Clone()
	return k.c.check("volumes", d.id, d.gib, d.content)
}

func (k *tenant) attach(ctx context.Context, d *disk) error {
	ans, err := k.ask(ctx, http.MethodPost, "/attachments", M{"attachment": M{"volume_uuid": d.id, "connector": M{"host": "n1"}}})
	if err != nil {
		return err
	}
	if ans.Status != http.StatusOK {
		return ans.refusal()
	}
	var out struct{ Attachment attachmentShown }
	if err := json.Unmarshal(ans.Body, &out); err != nil {
		return err
	}
	if d.host, err = harness.NewHost(out.Attachment.Info.URI); err != nil {
		return fmt.Errorf("%w: %s", err, ans.Body)
	}
	d.attachment = out.Attachment.ID
	if err := k.end(ctx, ans); err != nil {
		return err
	}
	if err := k.complete(ctx, d); err != nil {
		return err
	}
	return k.write(ctx, d)
}

// complete says that the host has the volume. It may be said again.
func (k *tenant) complete(ctx context.Context, d *disk) error {
	for {
		ans, err := k.c.Do(ctx, http.MethodPost, "/attachments/"+d.attachment+"/action", M{"os-complete": M{}})
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("attachment %s: no answer: %w", d.attachment, context.Cause(ctx))
		case err != nil || ans.Status == http.StatusServiceUnavailable:
			pauseBriefly(ctx)
		case ans.Status == http.StatusNoContent:
			return nil
		default:
			return fmt.Errorf("complete attachment %s: %d: %s", d.attachment, ans.Status, ans.Body)
		}
	}
}

// attachmentShown is what tests read of an attachment.
type attachmentShown struct {
	ID   string
	Info struct{ URI string } `json:"connection_info"`
}

// detach cuts the host off: when it is answered, a write is refused.
func (k *tenant) detach(ctx context.Context, d *disk) error {
	if _, err := d.host.Connect(); err != nil && !k.c.exportsToo {
		return err
	}
	ans, err := k.ask(ctx, http.MethodDelete, "/attachments/"+d.attachment, nil)
	if err != nil {
		return err
	}
	if ans.Status != http.StatusOK {
		return ans.refusal()
	}
	if err := k.end(ctx, ans); err != nil {
		return err
	}
	if err := d.host.Write(k.blocks(d.gib)); err == nil {
		return fmt.Errorf("volume %s: the host wrote after it was detached", d.id)
	}
	d.host.Close()
	d.host, d.attachment = nil, ""
	return k.c.check("volumes", d.id, d.gib, d.content)
}

// burst makes several volumes of one source and deletes or extends the source at the same moment: that is refused, or it
// comes before or after, but no volume is wrong.
func (k *tenant) burst(ctx context.Context, d *disk) error {
	type made struct {
		d   *disk
		ans *answered
		err error
	}
	clones := make([]made, 3)
	var last *answered
	var lastErr error
	var wg sync.WaitGroup
	for i := range clones {
		wg.Go(func() {
			n := &disk{gib: 4, content: d.content.Clone()}
			ans, err := k.ask(ctx, http.MethodPost, "/volumes", M{"volume": M{"size": n.gib, "source_volid": d.id}})
			clones[i] = made{n, ans, err}
		})
	}
	extend := d.gib < 4
	wg.Go(func() {
		if extend {
			last, lastErr = k.ask(ctx, http.MethodPost, "/volumes/"+d.id+"/action", M{"os-extend": M{"new_size": d.gib + 1}})
		} else {
			last, lastErr = k.ask(ctx, http.MethodDelete, "/volumes/"+d.id, nil)
		}
	})
	wg.Wait()
	for _, m := range clones {
		if m.err != nil {
			return m.err
		}
		if err := k.settleClone(ctx, m.d, m.ans); err != nil {
			return err
		}
	}
	if lastErr != nil {
		return lastErr
	}
	if last.Status == http.StatusBadRequest {
		k.c.close(last.request, harness.Operation{})
		return k.c.check("volumes", d.id, d.gib, d.content)
	}
	if last.Status != http.StatusAccepted {
		return last.refusal()
	}
	if err := k.end(ctx, last); err != nil {
		return err
	}
	if extend {
		d.gib++
		return k.c.check("volumes", d.id, d.gib, d.content)
	}
	k.disks = slices.DeleteFunc(k.disks, func(o *disk) bool { return o == d })
	k.gone = append(k.gone, "/volumes/"+d.id)
	return nil
}

func (k *tenant) settleClone(ctx context.Context, d *disk, ans *answered) error {
	switch ans.Status {
	case http.StatusAccepted:
	case http.StatusBadRequest, http.StatusNotFound:
		k.c.close(ans.request, harness.Operation{})
		return nil
	default:
		return ans.refusal()
	}
	if err := k.end(ctx, ans); err != nil {
		return err
	}
	d.id = idOf(ans.Body)
	k.disks = append(k.disks, d)
	return k.c.check("volumes", d.id, d.gib, d.content)
}

// check compares a thing on the backend with what it must hold.
func (c *campaign) check(folder, id string, gib int64, want harness.Content) error {
	have, size, err := harness.ReadContent(c.file(folder, id))
	if err != nil {
		return err
	}
	if size != gib<<30 {
		return errors.New(folder + " " + id + ": " + fmt.Sprintf("%d bytes, want %d GiB", size, gib))
	}
	if text := want.Differs(have); text != "" {
		return fmt.Errorf("%s %s: %s", folder, id, text)
	}
	return nil
}

func (c *campaign) file(folder, id string) string { return filepath.Join(c.backend, folder, id) }
