package rest

import (
	"cmp"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// volumeOf returns the volume of the path, if the caller may see it.
func (c *call) volumeOf(id string) (*view.Volume, error) {
	if block.IsUUID(id) {
		if r, ok := c.reader().Volume(block.VolumeID(id)); ok && c.mine(r.Project) {
			return r, nil
		}
	}
	return nil, messages.VolumeNotFound(block.VolumeID(id))
}

// volumeID is the ID of the path. Whether there is such a volume admission decides, which also knows requests that are
// repeated after the volume has gone.
func (c *call) volumeID() (block.VolumeID, error) {
	id := c.r.PathValue("id")
	if !block.IsUUID(id) {
		return "", messages.VolumeNotFound(block.VolumeID(id))
	}
	return block.VolumeID(id), nil
}

func (c *call) showVolume() error {
	r, err := c.volumeOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.replyVolume(http.StatusOK, r, true)
}

func (c *call) listVolumes() error       { return c.volumes("volumes", (*volumeView).summary) }
func (c *call) listVolumeDetails() error { return c.volumes("volumes/detail", (*volumeView).detail) }

func (c *call) volumes(path string, render func(*volumeView, []byte, *view.Volume) []byte) error {
	q, err := c.listQuery()
	if err != nil {
		return err
	}
	order, err := comparer(&q, volumeOrder)
	if err != nil {
		return err
	}
	var marker **view.Volume
	if q.marker != "" {
		m, err := c.volumeOf(q.marker)
		if err != nil {
			return err
		}
		marker = &m
	}
	v, all := c.volumeView(true), c.projectVolumes(&q)
	keep, err := v.filter().build(c, &q)
	if err != nil {
		return err
	}
	rows, total := page(&q, all, keep, order, marker)
	b := append(getBuffer(), `{"volumes": [`...)
	lastID := ""
	for i, r := range rows {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = render(v, b, r)
		lastID = string(r.ID)
	}
	return c.reply(http.StatusOK, c.appendListEnd(b, &q, "volumes", path, len(rows), lastID, total))
}

// scope is the project whose rows a list shows; "" for all.
func (c *call) scope(q *query) string {
	if q.all {
		return ""
	}
	delete(q.filters, "project_id") // it is the caller's
	return c.who.Project
}

func (c *call) projectVolumes(q *query) iter.Seq[*view.Volume] { return c.reader().Volumes(c.scope(q)) }

// volumeOrder are the keys that volumes can be sorted by: the columns of Cinder's table that mean something here.
var volumeOrder = map[string]func(a, b *view.Volume) int{
	"id":                  func(a, b *view.Volume) int { return cmp.Compare(a.ID, b.ID) },
	"created_at":          func(a, b *view.Volume) int { return a.CreatedAt.Compare(b.CreatedAt) },
	"updated_at":          func(a, b *view.Volume) int { return a.UpdatedAt.Compare(b.UpdatedAt) },
	"size":                func(a, b *view.Volume) int { return cmp.Compare(a.SizeGiB, b.SizeGiB) },
	"name":                byText(func(r *view.Volume) string { return r.Name }),
	"display_name":        byText(func(r *view.Volume) string { return r.Name }),
	"display_description": byText(func(r *view.Volume) string { return r.Description }),
	"status":              byText(func(r *view.Volume) string { return string(r.Shown) }),
	"attach_status":       byText(attachStatus),
	"availability_zone":   byText(func(r *view.Volume) string { return r.Zone }),
	"user_id":             byText(func(r *view.Volume) string { return r.User }),
	"project_id":          byText(func(r *view.Volume) string { return r.Project }),
	"host":                byText(func(r *view.Volume) string { return r.Backend }),
	"snapshot_id":         byText(func(r *view.Volume) string { return string(r.FromSnapshot) }),
	"source_volid":        byText(func(r *view.Volume) string { return string(r.FromVolume) }),
	"volume_type_id":      equal[*view.Volume],
	"bootable":            equal[*view.Volume],
	"multiattach":         equal[*view.Volume],
	"migration_status":    equal[*view.Volume],
	"replication_status":  equal[*view.Volume],
	"consistencygroup_id": equal[*view.Volume],
	"group_id":            equal[*view.Volume],
	"encryption_key_id":   equal[*view.Volume],
	"cluster_name":        equal[*view.Volume],
	"provider_id":         equal[*view.Volume],
}

// attachStatus is Cinder's column of that name.
func attachStatus(r *view.Volume) string {
	s := "detached"
	for _, a := range r.Attachments {
		switch a.Status {
		case block.AttachAttached:
			return "attached"
		case block.AttachAttaching:
			s = "attaching"
		case block.AttachReserved, block.AttachDetaching, block.AttachErrorAttaching, block.AttachErrorDetaching:
			if s == "detached" {
				s = string(a.Status)
			}
		}
	}
	return s
}

// filter says how volumes are filtered. What is always null, false or true here is a field all the same.
func (v *volumeView) filter() *filterSpec[*view.Volume] {
	null := field[*view.Volume]{text: func(*view.Volume) string { return "" }}
	no := field[*view.Volume]{boolean: true, text: func(*view.Volume) string { return "false" }}
	name := field[*view.Volume]{raw: true, text: func(r *view.Volume) string { return r.Name }}
	description := field[*view.Volume]{text: func(r *view.Volume) string { return r.Description }}
	return &filterSpec[*view.Volume]{
		literals: true,
		open:     volumeFilters,
		openBefore: []string{"name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size",
			"created_at", "updated_at"},
		fields: map[string]field[*view.Volume]{
			"id": {text: func(r *view.Volume) string { return string(r.ID) }}, "name": name, "display_name": name,
			"description": description, "display_description": description,
			"status":        {text: func(r *view.Volume) string { return string(r.Shown) }},
			"attach_status": {text: attachStatus},
			"size":          {number: true, text: func(r *view.Volume) string { return strconv.FormatInt(int64(r.SizeGiB), 10) }},
			"metadata":      {dict: func(r *view.Volume) map[string]string { return r.Metadata }},
			"availability_zone": {text: func(r *view.Volume) string {
				return v.c.zoneOf(r.Zone)
			}},
			"user_id":        {text: func(r *view.Volume) string { return r.User }},
			"project_id":     {text: func(r *view.Volume) string { return r.Project }},
			"snapshot_id":    {text: func(r *view.Volume) string { return string(r.FromSnapshot) }},
			"source_volid":   {text: func(r *view.Volume) string { return string(r.FromVolume) }},
			"host":           {text: func(r *view.Volume) string { return v.hosts[r.Backend] }},
			"volume_type_id": {text: func(*view.Volume) string { return defaultTypeID }},
			"created_at":     {at: func(r *view.Volume) time.Time { return r.CreatedAt.Truncate(time.Microsecond) }, from: mvResourceFilter},
			"updated_at":     {at: func(r *view.Volume) time.Time { return r.UpdatedAt.Truncate(time.Microsecond) }, from: mvResourceFilter},
			"bootable":       no, "multiattach": no,
			"consumes_quota":   {boolean: true, text: func(*view.Volume) string { return "true" }, from: mvUseQuota},
			"migration_status": null, "replication_status": null, "consistencygroup_id": null, "group_id": null,
			"encryption_key_id": null, "cluster_name": null, "provider_id": null,
			"glance_metadata": {dict: func(*view.Volume) map[string]string { return nil }},
		},
	}
}

// volumeFilters are what resource_filters says of volumes, as in Cinder.
var volumeFilters = []string{"name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size",
	"created_at", "updated_at", "consumes_quota"}

// summarizeVolumes counts the volumes of the project, or of all.
func (c *call) summarizeVolumes() error {
	q, err := c.listQuery()
	if err != nil {
		return err
	}
	var count, size int64
	distinct := map[string]map[string]bool{}
	for r := range c.projectVolumes(&q) {
		count++
		size += int64(r.SizeGiB)
		for k, v := range r.Metadata {
			if distinct[k] == nil {
				distinct[k] = map[string]bool{}
			}
			distinct[k][v] = true
		}
	}
	b := append(getBuffer(), `{"volume-summary": {"total_count": `...)
	b = appendInt(b, count)
	b = append(b, `, "total_size": `...)
	b = appendInt(b, size)
	if c.mv >= mvSummaryMetadata {
		b = append(b, `, "metadata": {`...)
		for i, k := range sortedNames(distinct) {
			b = appendComma(b, i)
			b = appendString(b, k)
			b = append(b, ": ["...)
			for j, v := range sortedNames(distinct[k]) {
				b = appendComma(b, j)
				b = appendString(b, v)
			}
			b = append(b, ']')
		}
		b = append(b, '}')
	}
	return c.reply(http.StatusOK, append(b, "}}"...))
}

// deleteVolume asks for the deletion of a volume. With cascade it deletes one without snapshots only: for the others
// this release has no operation.
func (c *call) deleteVolume() error {
	values, err := c.params()
	if err != nil {
		return err
	}
	flags := map[string]bool{}
	for _, name := range []string{"cascade", "force"} {
		if v, ok := param(values, name); ok {
			if flags[name], err = boolParam(name, v); err != nil {
				return err
			}
		}
	}
	id, err := c.volumeID()
	if err != nil {
		return err
	}
	if flags["force"] && c.mv >= mvDeleteForce {
		return notImplemented("Deleting a volume by force is not implemented in this release of Scoria. Delete it without force.")
	}
	if flags["cascade"] {
		if r, err := c.volumeOf(string(id)); err == nil && len(r.Snapshots) > 0 {
			return notImplemented("Deleting a volume together with its snapshots (cascade) is not implemented in this release of Scoria. Delete its %d snapshots first.", len(r.Snapshots))
		}
	}
	return c.submitEmpty(&messages.DeleteVolume{Volume: id})
}
