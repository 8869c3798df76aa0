package rest

import (
	"net/http"

	"github.com/scoria-storage/scoria/messages/block"
)

// showLimits tells the limits of the caller's project and what it uses. There are no backups, so their limits are 0.
func (c *call) showLimits() error {
	values, err := c.params()
	if err != nil {
		return err
	}
	project := c.who.Project
	if c.mv >= mvLimitsProject && c.who.Admin {
		for _, name := range []string{"tenant_id", "project_id"} {
			if p, ok := param(values, name); ok {
				project = p
			}
		}
	}
	if block.CheckToken(project) != nil {
		return badRequest("Invalid input received: project_id %s is not a project", pyRepr(clip(project)))
	}
	limits, use := c.reader().Quota(project)
	b := append(getBuffer(), `{"limits": {"rate": [], "absolute": {`...)
	for i, n := range []struct {
		name  string
		value int64
	}{
		{"maxTotalVolumes", limits.Volumes}, {"maxTotalSnapshots", limits.Snapshots}, {"maxTotalVolumeGigabytes", int64(limits.GiB)},
		{"maxTotalBackups", 0}, {"maxTotalBackupGigabytes", 0},
		{"totalVolumesUsed", use.Volumes}, {"totalGigabytesUsed", int64(use.GiB)}, {"totalSnapshotsUsed", use.Snapshots},
		{"totalBackupsUsed", 0}, {"totalBackupGigabytesUsed", 0},
	} {
		b = appendComma(b, i)
		b = appendString(b, n.name)
		b = append(b, ": "...)
		b = appendInt(b, n.value)
	}
	return c.reply(http.StatusOK, append(b, "}}}"...))
}
