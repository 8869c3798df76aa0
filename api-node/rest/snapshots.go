package rest

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

func (c *call) snapshotOf(id string) (*view.Snapshot, error) {
	if block.IsUUID(id) {
		if r, ok := c.reader().Snapshot(block.SnapshotID(id)); ok && c.mine(r.Project) {
			return r, nil
		}
	}
	return nil, messages.SnapshotNotFound(block.SnapshotID(id))
}

// appendSnapshot appends a snapshot: the short form, the rest of the microversion's if detailed, the extension's
// attributes if extended.
func (c *call) appendSnapshot(b []byte, r *view.Snapshot, detailed, extended bool) []byte {
	b = append(b, `{"id": "`...)
	b = append(b, r.ID...)
	b = append(b, `", "created_at": `...)
	b = appendTime(b, r.CreatedAt)
	b = append(b, `, "updated_at": `...)
	b = appendTime(b, r.UpdatedAt)
	b = append(b, `, "name": `...)
	b = appendNullable(b, r.Name)
	b = append(b, `, "description": `...)
	b = appendNullable(b, r.Description)
	b = append(b, `, "volume_id": "`...)
	b = append(b, r.Volume...)
	b = append(b, `", "status": "`...)
	b = append(b, r.Shown...)
	b = append(b, `", "size": `...)
	b = appendInt(b, int64(r.SizeGiB))
	b = append(b, `, "metadata": `...)
	b = appendMap(b, r.Metadata)
	if detailed {
		if c.mv >= mvGroupSnapshots {
			b = append(b, `, "group_snapshot_id": null`...)
		}
		if c.mv >= mvSnapshotUserID {
			b = append(b, `, "user_id": `...)
			b = appendNullable(b, r.User)
		}
		if c.mv >= mvUseQuota {
			b = append(b, `, "consumes_quota": true`...)
		}
	}
	if extended {
		b = append(b, `, "os-extended-snapshot-attributes:project_id": `...)
		b = appendString(b, r.Project)
		b = append(b, `, "os-extended-snapshot-attributes:progress": "`...)
		b = append(b, progress(r)...)
		b = append(b, '"')
	}
	return append(b, '}')
}

// progress is that of the creation, as far as Cinder tells it.
func progress(r *view.Snapshot) string {
	if r.Status == block.SnapshotAvailable {
		return "100%"
	}
	return "0%"
}

func (c *call) replySnapshot(status int, r *view.Snapshot, extended bool) error {
	b := append(getBuffer(), `{"snapshot": `...)
	b = c.appendSnapshot(b, r, true, extended)
	return c.reply(status, append(b, '}'))
}

func (c *call) showSnapshot() error {
	r, err := c.snapshotOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.replySnapshot(http.StatusOK, r, true)
}

func (c *call) listSnapshots() error       { return c.snapshots("snapshots", false) }
func (c *call) listSnapshotDetails() error { return c.snapshots("snapshots/detail", true) }

func (c *call) snapshots(path string, detailed bool) error {
	q, err := c.listQuery()
	if err != nil {
		return err
	}
	order, err := comparer(&q, snapshotOrder)
	if err != nil {
		return err
	}
	var marker **view.Snapshot
	if q.marker != "" {
		m, err := c.snapshotOf(q.marker)
		if err != nil {
			return err
		}
		marker = &m
	}
	scope := c.scope(&q)
	keep, err := c.snapshotFilter().build(c, &q)
	if err != nil {
		return err
	}
	rows, total := page(&q, c.reader().Snapshots(scope), keep, order, marker)
	b := append(getBuffer(), `{"snapshots": [`...)
	lastID := ""
	for i, r := range rows {
		b = appendComma(b, i)
		b = c.appendSnapshot(b, r, detailed, detailed)
		lastID = string(r.ID)
	}
	return c.reply(http.StatusOK, c.appendListEnd(b, &q, "snapshots", path, len(rows), lastID, total))
}

var snapshotOrder = map[string]func(a, b *view.Snapshot) int{
	"id":                  func(a, b *view.Snapshot) int { return cmp.Compare(a.ID, b.ID) },
	"created_at":          func(a, b *view.Snapshot) int { return a.CreatedAt.Compare(b.CreatedAt) },
	"updated_at":          func(a, b *view.Snapshot) int { return a.UpdatedAt.Compare(b.UpdatedAt) },
	"volume_size":         func(a, b *view.Snapshot) int { return cmp.Compare(a.SizeGiB, b.SizeGiB) },
	"name":                byText(func(r *view.Snapshot) string { return r.Name }),
	"display_name":        byText(func(r *view.Snapshot) string { return r.Name }),
	"display_description": byText(func(r *view.Snapshot) string { return r.Description }),
	"status":              byText(func(r *view.Snapshot) string { return string(r.Shown) }),
	"volume_id":           byText(func(r *view.Snapshot) string { return string(r.Volume) }),
	"user_id":             byText(func(r *view.Snapshot) string { return r.User }),
	"project_id":          byText(func(r *view.Snapshot) string { return r.Project }),
	"progress":            byText(progress),
	"cgsnapshot_id":       equal[*view.Snapshot],
	"group_snapshot_id":   equal[*view.Snapshot],
	"encryption_key_id":   equal[*view.Snapshot],
	"volume_type_id":      equal[*view.Snapshot],
	"provider_id":         equal[*view.Snapshot],
}

// snapshotFilters are what resource_filters says of snapshots, as in Cinder.
var snapshotFilters = []string{"name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"}

func (c *call) snapshotFilter() *filterSpec[*view.Snapshot] {
	null := field[*view.Snapshot]{text: func(*view.Snapshot) string { return "" }}
	name := field[*view.Snapshot]{text: func(r *view.Snapshot) string { return r.Name }}
	description := field[*view.Snapshot]{text: func(r *view.Snapshot) string { return r.Description }}
	return &filterSpec[*view.Snapshot]{
		open:       snapshotFilters,
		openBefore: []string{"status", "volume_id", "name", "metadata"},
		fields: map[string]field[*view.Snapshot]{
			"id": {text: func(r *view.Snapshot) string { return string(r.ID) }}, "name": name, "display_name": name,
			"description": description, "display_description": description,
			"status":      {text: func(r *view.Snapshot) string { return string(r.Shown) }},
			"volume_id":   {text: func(r *view.Snapshot) string { return string(r.Volume) }},
			"volume_size": {number: true, text: func(r *view.Snapshot) string { return strconv.FormatInt(int64(r.SizeGiB), 10) }},
			"metadata":    {dict: func(r *view.Snapshot) map[string]string { return r.Metadata }, from: mvSnapshotMeta},
			"availability_zone": {text: func(r *view.Snapshot) string {
				if v, ok := c.reader().Volume(r.Volume); ok {
					return c.zoneOf(v.Zone)
				}
				return ""
			}},
			"user_id":        {text: func(r *view.Snapshot) string { return r.User }},
			"project_id":     {text: func(r *view.Snapshot) string { return r.Project }},
			"progress":       {text: progress},
			"created_at":     {text: func(r *view.Snapshot) string { return r.CreatedAt.UTC().Format(timeFormat) }},
			"updated_at":     {text: func(r *view.Snapshot) string { return formatTime(r.UpdatedAt) }},
			"consumes_quota": {boolean: true, text: func(*view.Snapshot) string { return "true" }, from: mvUseQuota},
			"cgsnapshot_id":  null, "group_snapshot_id": null, "encryption_key_id": null,
			"volume_type_id": {text: func(*view.Snapshot) string { return defaultTypeID }},
		},
	}
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// textForce is Cinder's, with its spelling: from 3.66 on snapshots of volumes in use need no flag.
const textForce = "Since microversion 3.66 the 'force' flag is invalid for this request.  For backward compatability, however, " + //nolint:misspell // clients match it
	"when the 'force' flag is passed with a value evaluating to True, it is silently ignored."

func (c *call) createSnapshot() error {
	body, err := c.validBody(createSnapshotSchema)
	if err != nil {
		return err
	}
	s := body["snapshot"].(object)
	volume := block.VolumeID(canonicalUUID(text(s, "volume_id")))
	if volume == "" { // null
		return messages.VolumeNotFound("None")
	}
	force, err := truth("force", s["force"])
	if err != nil {
		return err
	}
	if _, given := s["force"]; given && !force && c.mv >= mvSnapshotInUse {
		return badRequest(textForce)
	}
	acc, err := c.submit(&messages.CreateSnapshot{Volume: volume, Name: name(s), Description: description(s), Metadata: stringMap(s["metadata"]),
		AllowAttached: force || c.mv >= mvSnapshotInUse})
	if err != nil {
		return err
	}
	r, err := c.snapshotOf(acc.Resource)
	if err != nil {
		return err
	}
	return c.replySnapshot(http.StatusAccepted, r, false)
}

func (c *call) updateSnapshot() error {
	body, err := c.validBody(updateSnapshotSchema)
	if err != nil {
		return err
	}
	if err := c.refuseQueue(); err != nil {
		return err
	}
	r, err := c.snapshotOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	s := body["snapshot"].(object)
	patch := admit.Patch{Name: changed(s, "name", "display_name"), Description: changed(s, "description", "display_description")}
	_, rev, err := c.api.cfg.Submitter.UpdateSnapshot(c.r.Context(), c.caller(), r.ID, patch)
	if err != nil {
		return err
	}
	if err := c.wait(rev, ""); err != nil {
		return err
	}
	if r, err = c.snapshotOf(string(r.ID)); err != nil {
		return err
	}
	return c.replySnapshot(http.StatusOK, r, false)
}

func (c *call) deleteSnapshot() error {
	id := c.r.PathValue("id")
	if !block.IsUUID(id) {
		return messages.SnapshotNotFound(block.SnapshotID(id))
	}
	return c.submitEmpty(&messages.DeleteSnapshot{Snapshot: block.SnapshotID(id)})
}

func (c *call) actOnSnapshot() error { return c.act(snapshotActions) }

var snapshotActions = map[string]action{
	"os-reset_status":           {what: "set the status by hand"},
	"os-force_delete":           {what: "delete by force"},
	"os-unmanage":               {what: "stop managing"},
	"os-update_snapshot_status": {what: "set the status by hand"},
}
