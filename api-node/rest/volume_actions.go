package rest

import (
	"net/http"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// updateVolume changes the name and the description.
func (c *call) updateVolume() error {
	s := updateVolumeSchema
	if c.mv >= mvStrictSchema {
		s = updateVolumeSchema5
	}
	body, err := c.validBody(s)
	if err != nil {
		return err
	}
	if err := c.refuseQueue(); err != nil {
		return err
	}
	v := body["volume"].(object)
	if _, ok := v["metadata"]; ok {
		return notImplemented("Changing the metadata of a volume is not implemented in this release of Scoria.")
	}
	r, err := c.volumeOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	patch := admit.Patch{Name: changed(v, "name", "display_name"), Description: changed(v, "description", "display_description")}
	if patch.Name != nil || patch.Description != nil {
		_, rev, err := c.api.cfg.Submitter.UpdateVolume(c.r.Context(), c.caller(), r.ID, patch)
		if err != nil {
			return err
		}
		if err := c.wait(rev, ""); err != nil {
			return err
		}
		if r, err = c.volumeOf(string(r.ID)); err != nil {
			return err
		}
	}
	return c.replyVolume(http.StatusOK, r, false)
}

// action is one of the actions that a POST to …/action may name.
type action struct {
	min microversion
	do  func(c *call, body object) error
	// what says for people what an action does that this release does not have.
	what string
}

// act does the action that the body names.
func (c *call) act(actions map[string]action) error {
	data, err := c.readBody()
	if err != nil {
		return err
	}
	if data == nil {
		return badRequest("There is no such action: None. Verify the request body and Content-Type header and try again.")
	}
	body, err := parseObject(data)
	if err != nil {
		return err
	}
	if len(body) != 1 {
		return badRequest(textMalformed)
	}
	for name := range body {
		a, ok := actions[name]
		switch {
		case !ok:
			return badRequest("There is no such action: %s. Verify the request body and Content-Type header and try again.", clip(name))
		case c.mv < a.min:
			return notFound(textNotFound)
		case a.do == nil:
			return notImplemented("The action %s (%s) is not implemented in this release of Scoria.", name, a.what)
		}
		return a.do(c, body)
	}
	return nil
}

func (c *call) actOnVolume() error { return c.act(volumeActions) }

// volumeActions are all actions of Cinder's volumes.
var volumeActions = map[string]action{
	"os-extend":                    {do: (*call).extendVolume},
	"revert":                       {min: mvRevert, do: (*call).revertVolume},
	"os-set_bootable":              {what: "mark as bootable"},
	"os-update_readonly_flag":      {what: "mark as read-only"},
	"os-retype":                    {what: "change the type"},
	"os-volume_upload_image":       {what: "upload to the image service"},
	"os-reimage":                   {min: 68, what: "write an image"},
	"os-set_image_metadata":        {what: "set image metadata"},
	"os-show_image_metadata":       {what: "show image metadata"},
	"os-unset_image_metadata":      {what: "remove image metadata"},
	"os-reset_status":              {what: "set the status by hand"},
	"os-force_delete":              {what: "delete by force"},
	"os-force_detach":              {what: "detach by force"},
	"os-migrate_volume":            {what: "move to another host"},
	"os-migrate_volume_completion": {what: "complete a move to another host"},
	"os-extend_volume_completion":  {min: 71, what: "complete an extend"},
	"os-unmanage":                  {what: "stop managing"},
	"os-attach":                    {what: "attach without an attachment; use POST /attachments, microversion 3.27"},
	"os-detach":                    {what: "detach without an attachment; use DELETE /attachments/{id}, microversion 3.27"},
	"os-reserve":                   {what: "reserve without an attachment; use POST /attachments, microversion 3.27"},
	"os-unreserve":                 {what: "give a reservation back; use DELETE /attachments/{id}, microversion 3.27"},
	"os-begin_detaching":           {what: "begin to detach"},
	"os-roll_detaching":            {what: "give detaching up"},
	"os-initialize_connection":     {what: "connect without an attachment; use POST /attachments, microversion 3.27"},
	"os-terminate_connection":      {what: "disconnect without an attachment; use DELETE /attachments/{id}, microversion 3.27"},
}

func (c *call) extendVolume(body object) error {
	if err := extendSchema.check(body); err != nil {
		return err
	}
	id, err := c.volumeID()
	if err != nil {
		return err
	}
	to, err := size(body["os-extend"].(object)["new_size"])
	if err != nil {
		return err
	}
	return c.submitEmpty(&messages.ExtendVolume{Volume: id, SizeGiB: to, AllowAttached: c.mv >= mvExtendInUse})
}

func (c *call) revertVolume(body object) error {
	if err := revertSchema.check(body); err != nil {
		return err
	}
	id, err := c.volumeID()
	if err != nil {
		return err
	}
	given := body["revert"].(object)["snapshot_id"]
	snapshot, _ := given.(string)
	if block.IsUUID(snapshot) {
		return c.submitEmpty(&messages.RevertVolume{Volume: id, Snapshot: block.SnapshotID(snapshot)})
	}
	r, err := c.volumeOf(string(id))
	if err != nil {
		return err
	}
	if len(r.Snapshots) == 0 {
		return badRequest("Volume %s doesn't have any snapshots.", r.ID)
	}
	return badRequest("Specified snapshot %s is None or not the latest one of volume %s.", clip(pyStr(given)), r.ID)
}
