package rest

import "net/http"

// Metadata can be read; what creates a resource sets it. Changing it is not built.

func (c *call) showVolumeMetadata() error {
	r, err := c.volumeOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.replyMetadata(r.Metadata)
}

func (c *call) showVolumeMetadatum() error {
	r, err := c.volumeOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.replyMetadatum(r.Metadata, "Volume", string(r.ID))
}

func (c *call) showSnapshotMetadata() error {
	r, err := c.snapshotOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.replyMetadata(r.Metadata)
}

func (c *call) showSnapshotMetadatum() error {
	r, err := c.snapshotOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.replyMetadatum(r.Metadata, "Snapshot", string(r.ID))
}

func (c *call) replyMetadata(m map[string]string) error {
	b := append(getBuffer(), `{"metadata": `...)
	return c.reply(http.StatusOK, append(appendMap(b, m), '}'))
}

func (c *call) replyMetadatum(m map[string]string, what, id string) error {
	key := c.r.PathValue("key")
	value, ok := m[key]
	if !ok {
		return notFound("%s %s has no metadata with key %s.", what, id, clip(key))
	}
	b := append(getBuffer(), `{"meta": `...)
	return c.reply(http.StatusOK, append(appendMap(b, map[string]string{key: value}), '}'))
}

// showEncryption: no volume is encrypted here.
func (c *call) showEncryption() error {
	if _, err := c.volumeOf(c.r.PathValue("id")); err != nil {
		return err
	}
	return c.reply(http.StatusOK, append(getBuffer(), `{"encryption_key_id": null}`...))
}

func (c *call) showEncryptionItem() error {
	if _, err := c.volumeOf(c.r.PathValue("id")); err != nil {
		return err
	}
	if key := c.r.PathValue("key"); key != "encryption_key_id" {
		return notFound(textNotFound)
	}
	return c.reply(http.StatusOK, append(getBuffer(), `null`...))
}
