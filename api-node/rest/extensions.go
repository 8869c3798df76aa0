package rest

import "net/http"

// extension is one of Cinder's extensions, of those that this release has.
type extension struct{ name, alias, description, updated string }

var extensions = []extension{
	{"AvailabilityZones", "os-availability-zone", "Describe Availability Zones.", "2013-06-27T00:00:00+00:00"},
	{"ExtendedSnapshotAttributes", "os-extended-snapshot-attributes", "Extended SnapshotAttributes support.", "2012-06-19T00:00:00+00:00"},
	{"UsedLimits", "os-used-limits", "Provide data on limited resources that are being used.", "2013-10-03T00:00:00+00:00"},
	{"VolumeActions", "os-volume-actions", "Enable volume actions.", "2012-05-31T00:00:00+00:00"},
	{"VolumeEncryptionMetadata", "os-volume-encryption-metadata", "Volume encryption metadata retrieval support.", "2013-07-10T00:00:00+00:00"},
	{"VolumeHostAttribute", "os-vol-host-attr", "Expose host as an attribute of a volume.", "2011-11-03T00:00:00+00:00"},
	{"VolumeMigStatusAttribute", "os-vol-mig-status-attr", "Expose migration_status as an attribute of a volume.", "2013-08-08T00:00:00+00:00"},
	{"VolumeTenantAttribute", "os-vol-tenant-attr", "Expose the internal project_id as an attribute of a volume.", "2011-11-03T00:00:00+00:00"},
}

func appendExtension(b []byte, e extension) []byte {
	b = append(b, `{"name": `...)
	b = appendString(b, e.name)
	b = append(b, `, "alias": `...)
	b = appendString(b, e.alias)
	b = append(b, `, "description": `...)
	b = appendString(b, e.description)
	b = append(b, `, "updated": `...)
	b = appendString(b, e.updated)
	return append(b, `, "links": []}`...)
}

func (c *call) listExtensions() error {
	b := append(getBuffer(), `{"extensions": [`...)
	for i, e := range extensions {
		b = appendExtension(appendComma(b, i), e)
	}
	return c.reply(http.StatusOK, append(b, "]}"...))
}

func (c *call) showExtension() error {
	for _, e := range extensions {
		if e.alias == c.r.PathValue("alias") {
			b := append(getBuffer(), `{"extension": `...)
			return c.reply(http.StatusOK, append(appendExtension(b, e), '}'))
		}
	}
	return notFound(textNotFound)
}

// listFilters tells by what lists can be filtered.
func (c *call) listFilters() error {
	values, err := c.params()
	if err != nil {
		return err
	}
	only, one := param(values, "resource")
	b := append(getBuffer(), `{"resource_filters": [`...)
	n := 0
	for _, r := range []struct {
		resource string
		filters  []string
	}{{"volume", volumeFilters}, {"snapshot", snapshotFilters}, {"attachment", attachmentFilters}, {"volume_type", typeFilters}} {
		if one && r.resource != only {
			continue
		}
		b = appendComma(b, n)
		n++
		b = append(b, `{"resource": `...)
		b = appendString(b, r.resource)
		b = append(b, `, "filters": [`...)
		for i, f := range r.filters {
			b = appendString(appendComma(b, i), f)
		}
		b = append(b, "]}"...)
	}
	return c.reply(http.StatusOK, append(b, "]}"...))
}
