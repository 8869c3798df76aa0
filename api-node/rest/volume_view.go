package rest

import (
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// volumeView renders volumes for one call.
type volumeView struct {
	c              *call
	self, bookmark string
	// extended: with the attributes of the extensions (tenant, host, migration), which Cinder shows on show and detail only.
	extended bool
	hosts    map[string]string // by backend
}

func (c *call) volumeView(extended bool) *volumeView {
	v := &volumeView{c: c, extended: extended}
	v.self, v.bookmark = c.links("volumes")
	if extended && c.who.Admin {
		v.hosts = c.hosts()
	}
	return v
}

// hosts are the names of backends in Cinder's form, host@backend#pool. A backend that any node may serve has the
// service's name for a host.
func (c *call) hosts() map[string]string {
	backends := c.reader().Backends()
	hosts := make(map[string]string, len(backends))
	for _, b := range backends {
		node := b.NodeName
		if node == "" {
			node = "scoria"
		}
		hosts[b.Name] = node + "@" + b.Name + "#" + b.Name
	}
	return hosts
}

func (v *volumeView) appendLinks(b []byte, id string) []byte {
	b = append(b, `"links": [{"rel": "self", "href": `...)
	b = appendString(b, v.self+id)
	b = append(b, `}, {"rel": "bookmark", "href": `...)
	b = appendString(b, v.bookmark+id)
	return append(b, "}]"...)
}

// summary appends the short form.
func (v *volumeView) summary(b []byte, r *view.Volume) []byte {
	b = append(b, `{"id": "`...)
	b = append(b, r.ID...)
	b = append(b, `", "name": `...)
	b = appendNullable(b, r.Name)
	b = append(b, ", "...)
	b = v.appendLinks(b, string(r.ID))
	return append(b, '}')
}

// detail appends all that the microversion has.
func (v *volumeView) detail(b []byte, r *view.Volume) []byte {
	c := v.c
	b = append(b, `{"id": "`...)
	b = append(b, r.ID...)
	b = append(b, `", "status": "`...)
	b = append(b, r.Shown...)
	b = append(b, `", "size": `...)
	b = appendInt(b, int64(r.SizeGiB))
	b = append(b, `, "availability_zone": `...)
	b = appendString(b, c.zoneOf(r.Zone))
	b = append(b, `, "created_at": `...)
	b = appendTime(b, r.CreatedAt)
	b = append(b, `, "updated_at": `...)
	b = appendTime(b, r.UpdatedAt)
	b = append(b, `, "name": `...)
	b = appendNullable(b, r.Name)
	b = append(b, `, "description": `...)
	b = appendNullable(b, r.Description)
	b = append(b, `, "volume_type": `...)
	b = appendString(b, typeName(r.Type))
	b = append(b, `, "snapshot_id": `...)
	b = appendNullable(b, string(r.FromSnapshot))
	b = append(b, `, "source_volid": `...)
	b = appendNullable(b, string(r.FromVolume))
	b = append(b, `, "metadata": `...)
	b = appendMap(b, r.Metadata)
	b = append(b, ", "...)
	b = v.appendLinks(b, string(r.ID))
	b = append(b, `, "user_id": `...)
	b = appendNullable(b, r.User)
	b = append(b, `, "bootable": "false", "encrypted": false, "replication_status": null, "consistencygroup_id": null, "multiattach": false, "attachments": `...)
	b = v.appendAttachments(b, r)
	if c.who.Admin {
		b = append(b, `, "migration_status": null`...)
	}
	b = v.appendByVersion(b)
	if v.extended {
		b = v.appendExtended(b, r)
	}
	return append(b, '}')
}

// appendByVersion appends what later microversions added. No volume here differs in these.
func (v *volumeView) appendByVersion(b []byte) []byte {
	mv, admin := v.c.mv, v.c.who.Admin
	if mv >= mvGroupVolume {
		b = append(b, `, "group_id": null`...)
	}
	if mv >= mvProviderID && admin {
		b = append(b, `, "provider_id": null`...)
	}
	if mv >= mvSharedTargets {
		b = append(b, `, "shared_targets": false, "service_uuid": null`...)
	}
	if mv >= mvClusterName && admin {
		b = append(b, `, "cluster_name": null`...)
	}
	if mv >= mvTypeID {
		b = append(b, `, "volume_type_id": "`+defaultTypeID+`"`...)
	}
	if mv >= mvUseQuota {
		b = append(b, `, "consumes_quota": true`...)
	}
	return b
}

func (v *volumeView) appendExtended(b []byte, r *view.Volume) []byte {
	b = append(b, `, "os-vol-tenant-attr:tenant_id": `...)
	b = appendString(b, r.Project)
	if v.c.who.Admin {
		b = append(b, `, "os-vol-mig-status-attr:migstat": null, "os-vol-mig-status-attr:name_id": null, "os-vol-host-attr:host": `...)
		b = appendNullable(b, v.hosts[r.Backend])
	}
	return b
}

// appendAttachments appends the attachments that are attached.
func (v *volumeView) appendAttachments(b []byte, r *view.Volume) []byte {
	b = append(b, '[')
	n := 0
	for _, ref := range r.Attachments {
		if ref.Status != block.AttachAttached {
			continue
		}
		a, ok := v.c.reader().Attachment(ref.ID)
		if !ok {
			continue
		}
		if n++; n > 1 {
			b = append(b, ", "...)
		}
		host, device := messages.ReadConnector(a.Connector)
		b = append(b, `{"id": `...)
		b = appendString(b, string(r.ID))
		b = append(b, `, "attachment_id": `...)
		b = appendString(b, string(a.ID))
		b = append(b, `, "volume_id": `...)
		b = appendString(b, string(r.ID))
		b = append(b, `, "server_id": `...)
		b = appendNullable(b, a.Instance)
		b = append(b, `, "host_name": `...)
		if !v.c.who.Admin {
			host = ""
		}
		b = appendNullable(b, host)
		b = append(b, `, "device": `...)
		b = appendNullable(b, device)
		b = append(b, `, "attached_at": `...)
		b = appendTime(b, a.AttachedAt)
		b = append(b, '}')
	}
	return append(b, ']')
}

// replyVolume answers with one volume.
func (c *call) replyVolume(status int, r *view.Volume, extended bool) error {
	b := append(getBuffer(), `{"volume": `...)
	b = c.volumeView(extended).detail(b, r)
	return c.reply(status, append(b, '}'))
}
