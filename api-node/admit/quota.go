package admit

import (
	"slices"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// charge takes more from the project's quota, or refuses.
func (d *draft) charge(project string, more records.Usage) error {
	key := records.QuotaKey(project)
	q, err := read[records.Quota](d.s, key)
	if err != nil {
		return err
	}
	q.T.Project = project
	limits := d.a.defaults.Limits
	if q.T.Limits != nil {
		limits = *q.T.Limits
	}
	if over(limits, q.T.Use, more) != nil {
		back, err := d.foldCredits(project)
		if err != nil {
			return err
		}
		q.T.Use = q.T.Use.Sub(back)
		if err := over(limits, q.T.Use, more); err != nil {
			return err
		}
	}
	q.T.Use = q.T.Use.Add(more)
	put(d, key, q.T, q.rev)
	return nil
}

// maxFold is how many nodes' credits one request folds in: it writes or checks each. Those that are left are for the next one.
const maxFold = 256

// foldCredits stages that what nodes gave back is used up, and returns the sum. The names of the nodes are the view's: a
// node that it does not know yet makes a refusal too early, never an acceptance.
func (d *draft) foldCredits(project string) (records.Usage, error) {
	nodes := d.a.hints.CreditNodes(project)
	for _, n := range d.a.hints.Nodes() {
		if !slices.Contains(nodes, n.Name) {
			nodes = append(nodes, n.Name)
		}
	}
	nodes = nodes[:min(len(nodes), maxFold)]
	credits := make([]found[records.Credit], len(nodes))
	var missing error
	for i, node := range nodes { // all of them are asked for before any is missed: that is one more read, not one for each
		c, err := read[records.Credit](d.s, records.CreditKey(project, node))
		if err != nil && missing == nil {
			missing = err
		}
		credits[i] = c
	}
	if missing != nil {
		return records.Usage{}, missing
	}
	var sum records.Usage
	for i, c := range credits {
		if c.T.Back.IsZero() {
			continue
		}
		sum = sum.Add(c.T.Back)
		c.T.Back = records.Usage{} // kept as nothing: a delete would leave a marker for each
		put(d, records.CreditKey(project, nodes[i]), c.T, c.rev)
	}
	return sum, nil
}

// over says why more may not be added, gigabytes first, as Cinder does.
func over(limits records.Limits, use, more records.Usage) error {
	switch {
	case more.GiB > 0 && exceeds(int64(limits.GiB), int64(use.GiB), int64(more.GiB)):
		return messages.Errorf(messages.CodeQuota, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. "+
			"Requested %dG, quota is %dG and %dG has been consumed.", more.GiB, limits.GiB, use.GiB)
	case more.Snapshots > 0 && exceeds(limits.Snapshots, use.Snapshots, more.Snapshots):
		return messages.Errorf(messages.CodeQuota, "SnapshotLimitExceeded: Maximum number of snapshots allowed (%d) exceeded", limits.Snapshots)
	case more.Volumes > 0 && exceeds(limits.Volumes, use.Volumes, more.Volumes):
		return messages.Errorf(messages.CodeQuota, "VolumeLimitExceeded: Maximum number of volumes allowed (%d) exceeded for quota 'volumes'.", limits.Volumes)
	}
	return nil
}

// exceeds cannot overflow: use and more are below 2^34 each.
func exceeds(limit, use, more int64) bool { return limit != records.Unlimited && use+more > limit }

func volumeUsage(size block.GiB) records.Usage { return records.Usage{Volumes: 1, GiB: size} }

func snapshotUsage(size block.GiB) records.Usage { return records.Usage{Snapshots: 1, GiB: size} }
