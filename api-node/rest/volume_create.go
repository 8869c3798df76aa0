package rest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

func (c *call) createVolume() error {
	s := createVolumeSchema
	switch {
	case c.mv >= mvStrictSchema:
		s = createVolumeSchema5
	case c.mv >= mvFromBackup:
		s = createVolumeSchema4
	case c.mv >= mvGroupVolume:
		s = createVolumeSchema3
	}
	body, err := c.validBody(s)
	if err != nil {
		return err
	}
	req, err := c.newVolume(body)
	if err != nil {
		return err
	}
	acc, err := c.submit(req)
	if err != nil {
		return err
	}
	r, err := c.volumeOf(acc.Resource)
	if err != nil { // a repeated request whose volume is gone again
		return err
	}
	return c.replyVolume(http.StatusAccepted, r, false)
}

// newVolume makes the request of the body, and refuses what this release does not do.
func (c *call) newVolume(body object) (*messages.CreateVolume, error) {
	v := body["volume"].(object)
	if err := unsupportedVolume(body, v); err != nil {
		return nil, err
	}
	typ, err := typeByNameOrID(text(v, "volume_type"))
	if err != nil {
		return nil, err
	}
	req := &messages.CreateVolume{
		Name: name(v), Description: description(v), Type: typ, Zone: text(v, "availability_zone"), Metadata: stringMap(v["metadata"]),
		FromSnapshot: block.SnapshotID(canonicalUUID(text(v, "snapshot_id"))), FromVolume: block.VolumeID(canonicalUUID(text(v, "source_volid"))),
	}
	if req.SizeGiB, err = size(v["size"]); err != nil {
		return nil, err
	}
	if req.FromSnapshot != "" && req.FromVolume != "" {
		return nil, badRequest("Invalid input received: a volume has one source at most, snapshot_id or source_volid")
	}
	if v["size"] == nil && req.FromSnapshot == "" && req.FromVolume == "" {
		return nil, badRequest("Invalid input received: Volume size 'None' must be an integer and greater than 0")
	}
	return req, nil
}

// unsupportedVolume refuses what Cinder does with a new volume and this release does not.
func unsupportedVolume(body, v object) error {
	for _, field := range []string{"imageRef", "image_id"} {
		if ref, ok := v[field].(string); ok {
			if ref == "" {
				return badRequest("Invalid image identifier or unable to access requested image.")
			}
			return notImplemented("Creating a volume from an image (%s) is not implemented in this release of Scoria.", field)
		}
	}
	for field, what := range map[string]string{"backup_id": "from a backup", "group_id": "in a group", "consistencygroup_id": "in a consistency group"} {
		if id, set := v[field]; set && id != nil && id != "" {
			return notImplemented("Creating a volume %s (%s) is not implemented in this release of Scoria.", what, field)
		}
	}
	if yes, err := truth("multiattach", v["multiattach"]); err != nil {
		return err
	} else if yes {
		return badRequest("multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types. " +
			"Contact your administrator to create a multiattach enabled volume type and use it to create multiattach volumes.")
	}
	for _, hints := range []any{body["OS-SCH-HNT:scheduler_hints"], v["OS-SCH-HNT:scheduler_hints"], v["scheduler_hints"]} {
		if o, ok := hints.(object); ok && len(o) > 0 {
			return notImplemented("Scheduler hints are not implemented in this release of Scoria.")
		}
	}
	return nil
}

// size reads a size that passed its schema; 0 for none.
func size(v any) (block.GiB, error) {
	var s string
	switch v := v.(type) {
	case nil:
		return 0, nil
	case json.Number:
		s = string(v)
	case string:
		s = v
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > int64(block.MaxSize) {
		return 0, badRequest("Invalid input received: Invalid volume size provided for create request: %s "+
			"(size argument must be an integer (or string representation of an integer) and greater than zero).", clip(s))
	}
	return block.GiB(n), nil
}

// text returns a property that is a string; "" for null or none.
func text(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// name is the name of a body: "name", or "display_name" as in older versions.
func name(o object) string { return either(o, "name", "display_name") }

func description(o object) string { return either(o, "description", "display_description") }

func either(o object, first, second string) string {
	if _, ok := o[first]; ok {
		return strings.TrimSpace(text(o, first))
	}
	return strings.TrimSpace(text(o, second))
}

// changed is either, or nil where the body has neither.
func changed(o object, first, second string) *string {
	_, a := o[first]
	_, b := o[second]
	if !a && !b {
		return nil
	}
	s := either(o, first, second)
	return &s
}

func stringMap(v any) map[string]string {
	o, _ := v.(object)
	if len(o) == 0 {
		return nil
	}
	m := make(map[string]string, len(o))
	for k := range o {
		m[k] = text(o, k)
	}
	return m
}

// truth reads a boolean of a body; null is false.
func truth(name string, v any) (bool, error) {
	switch v := v.(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case string:
		return boolParam(name, v)
	}
	return false, badRequest("Value '%s' for '%s' is not a boolean.", clip(pyStr(v)), name)
}
