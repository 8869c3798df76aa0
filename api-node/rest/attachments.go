package rest

import (
	"cmp"
	"net/http"

	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

func (c *call) attachmentOf(id string) (*view.Attachment, error) {
	if block.IsUUID(id) {
		if r, ok := c.reader().Attachment(block.AttachmentID(id)); ok && c.mine(r.Project) {
			return r, nil
		}
	}
	return nil, messages.AttachmentNotFound(block.AttachmentID(id))
}

// appendAttachment appends an attachment, with the connection if detailed.
func (c *call) appendAttachment(b []byte, r *view.Attachment, detailed bool) []byte {
	b = append(b, `{"id": "`...)
	b = append(b, r.ID...)
	b = append(b, `", "status": "`...)
	b = append(b, r.Shown...)
	b = append(b, `", "instance": `...)
	b = appendNullable(b, r.Instance)
	b = append(b, `, "volume_id": "`...)
	b = append(b, r.Volume...)
	b = append(b, '"')
	if !detailed {
		return append(b, '}')
	}
	b = append(b, `, "attached_at": `...)
	b = appendString(b, formatTime(r.AttachedAt))
	b = append(b, `, "detached_at": "", "attach_mode": "`...)
	b = append(b, attachMode(r)...)
	b = append(b, `", "connection_info": `...)
	b = appendConnection(b, r)
	return append(b, '}')
}

func attachMode(r *view.Attachment) string {
	if r.ReadOnly {
		return "ro"
	}
	return "rw"
}

// appendConnection appends how a host reaches the volume, flat as in Cinder; an empty object before it is exported.
func appendConnection(b []byte, r *view.Attachment) []byte {
	k := r.Connection
	if k == nil {
		return append(b, "{}"...)
	}
	b = append(b, `{"driver_volume_type": `...)
	b = appendString(b, k.Driver)
	for _, e := range []struct{ name, value string }{
		{"uri", k.URI}, {"socket", k.Socket}, {"export", k.Export}, {"node", k.Node},
		{"access_mode", attachMode(r)}, {"volume_id", string(r.Volume)}, {"attachment_id", string(r.ID)},
	} {
		b = append(b, `, "`...)
		b = append(b, e.name...)
		b = append(b, `": `...)
		b = appendString(b, e.value)
	}
	return append(b, `, "encrypted": false, "qos_specs": null, "cacheable": false}`...)
}

func (c *call) replyAttachment(r *view.Attachment) error {
	b := append(getBuffer(), `{"attachment": `...)
	b = c.appendAttachment(b, r, true)
	return c.reply(http.StatusOK, append(b, '}'))
}

func (c *call) showAttachment() error {
	r, err := c.attachmentOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.replyAttachment(r)
}

func (c *call) listAttachments() error       { return c.attachments(false) }
func (c *call) listAttachmentDetails() error { return c.attachments(true) }

func (c *call) attachments(detailed bool) error {
	q, err := c.listQuery()
	if err != nil {
		return err
	}
	order, err := comparer(&q, attachmentOrder)
	if err != nil {
		return err
	}
	var marker **view.Attachment
	if q.marker != "" {
		m, err := c.attachmentOf(q.marker)
		if err != nil {
			return err
		}
		marker = &m
	}
	scope := c.scope(&q)
	keep, err := attachmentFilter.build(c, &q)
	if err != nil {
		return err
	}
	rows, _ := page(&q, c.reader().Attachments(scope), keep, order, marker)
	return c.replyAttachments(rows, detailed)
}

// replyAttachments answers with a list; lists of attachments have no links.
func (c *call) replyAttachments(rows []*view.Attachment, detailed bool) error {
	b := append(getBuffer(), `{"attachments": [`...)
	for i, r := range rows {
		b = appendComma(b, i)
		b = c.appendAttachment(b, r, detailed)
	}
	return c.reply(http.StatusOK, append(b, "]}"...))
}

var attachmentOrder = map[string]func(a, b *view.Attachment) int{
	"id":            func(a, b *view.Attachment) int { return cmp.Compare(a.ID, b.ID) },
	"created_at":    func(a, b *view.Attachment) int { return a.CreatedAt.Compare(b.CreatedAt) },
	"updated_at":    func(a, b *view.Attachment) int { return a.UpdatedAt.Compare(b.UpdatedAt) },
	"attach_time":   func(a, b *view.Attachment) int { return a.AttachedAt.Compare(b.AttachedAt) },
	"attach_status": byText(func(r *view.Attachment) string { return string(r.Shown) }),
	"status":        byText(func(r *view.Attachment) string { return string(r.Shown) }),
	"attach_mode":   byText(attachMode),
	"volume_id":     byText(func(r *view.Attachment) string { return string(r.Volume) }),
	"instance_uuid": byText(func(r *view.Attachment) string { return r.Instance }),
	"attached_host": byText(attachedHost),
	"mountpoint":    equal[*view.Attachment],
	"detach_time":   equal[*view.Attachment],
}

func attachedHost(r *view.Attachment) string {
	host, _ := messages.ReadConnector(r.Connector)
	return host
}

// attachmentFilters are what resource_filters says of attachments, as in Cinder.
var attachmentFilters = []string{"volume_id", "status", "instance_id", "attach_status"}

var attachmentFilter = func() *filterSpec[*view.Attachment] {
	status := field[*view.Attachment]{text: func(r *view.Attachment) string { return string(r.Shown) }}
	instance := field[*view.Attachment]{text: func(r *view.Attachment) string { return r.Instance }}
	return &filterSpec[*view.Attachment]{
		open: attachmentFilters, openBefore: attachmentFilters,
		fields: map[string]field[*view.Attachment]{
			"id":            {text: func(r *view.Attachment) string { return string(r.ID) }},
			"volume_id":     {text: func(r *view.Attachment) string { return string(r.Volume) }},
			"project_id":    {text: func(r *view.Attachment) string { return r.Project }},
			"attach_mode":   {text: attachMode},
			"attached_host": {text: attachedHost},
			"status":        status, "attach_status": status,
			"instance_id": instance, "instance_uuid": instance,
		},
	}
}()
