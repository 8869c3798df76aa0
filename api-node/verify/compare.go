package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// compare returns all differences, in an order that does not depend on that of maps.
func (w *world) compare() []Difference {
	d := slices.Concat(w.broken, w.unlisted, w.compareQuotas(), w.comparePools(), w.compareLocks(), w.compareOperations(),
		w.compareStatuses(), w.compareChildren(), w.compareIdentities(), w.compareBackends(), w.compareObjects())
	slices.SortFunc(d, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Text, b.Text))
	})
	return d
}

// usageText tells how far the books are off. It leaves out the sums themselves, which move while others work.
func usageText(off records.Usage) string {
	return fmt.Sprintf("%+d volumes, %+d snapshots, %+d GiB", off.Volumes, off.Snapshots, off.GiB)
}

// compareQuotas: use less credits equals the sum over the records.
func (w *world) compareQuotas() (found []Difference) {
	sums := map[string]records.Usage{}
	for _, v := range w.volumes {
		sums[v.Project] = sums[v.Project].Add(records.Usage{Volumes: 1, GiB: v.ChargedGiB})
	}
	for _, s := range w.snapshots {
		sums[s.Project] = sums[s.Project].Add(records.Usage{Snapshots: 1, GiB: s.SizeGiB})
	}
	books := map[string]records.Usage{}
	for project, q := range w.quotas {
		books[project] = q.Use
	}
	for _, c := range w.credits {
		books[c.Project] = books[c.Project].Sub(c.Back)
	}
	for _, project := range keys(sums, books) {
		if sums[project] != books[project] {
			found = append(found, Difference{"quota", project, "the books (use less credits) differ from the sum over the records by " + usageText(books[project].Sub(sums[project]))})
		}
	}
	return found
}

// comparePools: what is allocated equals the sum over the volumes.
func (w *world) comparePools() (found []Difference) {
	sums, books := map[string]block.GiB{}, map[string]block.GiB{}
	for _, v := range w.volumes {
		if v.ReservedGiB != 0 {
			sums[v.Backend] += v.ReservedGiB
		}
	}
	for name, p := range w.pools {
		books[name] = p.AllocatedGiB
	}
	for _, name := range keys(sums, books) {
		if sums[name] != books[name] {
			found = append(found, Difference{"pool", name, fmt.Sprintf("what is allocated differs from the sum over the volumes by %+d GiB", books[name]-sums[name])})
		}
	}
	return found
}

// compareLocks: no lock entry without a live operation that claims the key.
func (w *world) compareLocks() (found []Difference) {
	for key, l := range w.locks {
		for _, h := range l.Holders {
			op, ok := w.operations[h.Owner]
			switch {
			case !ok:
				found = append(found, Difference{"lock", key, fmt.Sprintf("held by operation %s, which has no record", h.Owner)})
			case !live(op):
				found = append(found, Difference{"lock", key, fmt.Sprintf("held by operation %s, which has ended (%s)", h.Owner, op.Phase)})
			case !slices.ContainsFunc(op.Claims, func(c kvlock.Claim) bool { return c.Key == key && c.Mode == l.Mode }):
				found = append(found, Difference{"lock", key, fmt.Sprintf("held by operation %s, which does not claim it %s", h.Owner, l.Mode)})
			}
		}
	}
	return found
}

// compareOperations: each live operation holds all that it claims.
func (w *world) compareOperations() (found []Difference) {
	for id, op := range w.operations {
		if !live(op) {
			continue
		}
		for _, c := range op.Claims {
			l := w.locks[c.Key]
			if !l.Holds(id) {
				found = append(found, Difference{"lock", c.Key, fmt.Sprintf("operation %s is %s and claims it %s, but does not hold it", id, op.Phase, c.Mode)})
			}
		}
	}
	return found
}

// compareStatuses: no transitional status without a live operation.
func (w *world) compareStatuses() (found []Difference) {
	for id, v := range w.volumes {
		if v.Status == block.VolumeCreating && !w.held(records.VolumeKey(id)) {
			found = append(found, Difference{"status", records.VolumeKey(id), "it is creating, but no operation makes it"})
		}
		// An extend that was given up leaves the charge: nobody knows whether the backend has grown the volume.
		if v.ChargedGiB != v.SizeGiB && v.Status != block.VolumeErrorExtending && !w.held(records.VolumeKey(id)) {
			found = append(found, Difference{"status", records.VolumeKey(id), fmt.Sprintf("it has %d GiB and is charged %d GiB, but no operation changes its size", v.SizeGiB, v.ChargedGiB)})
		}
	}
	for id, s := range w.snapshots {
		if s.Status == block.SnapshotCreating && !w.held(records.SnapshotKey(id)) {
			found = append(found, Difference{"status", records.SnapshotKey(id), "it is creating, but no operation makes it"})
		}
	}
	return found
}

// compareChildren: the child sets of volumes and the children say the same.
func (w *world) compareChildren() (found []Difference) {
	for id, v := range w.volumes {
		for _, s := range v.Snapshots {
			if child, ok := w.snapshots[s]; !ok || child.Volume != id {
				found = append(found, Difference{"children", records.VolumeKey(id), fmt.Sprintf("it lists snapshot %s, which is missing or of another volume", s)})
			}
		}
		for _, a := range v.Attachments {
			child, ok := w.attachments[a.ID]
			if !ok || child.Volume != id || child.Status != a.Status {
				found = append(found, Difference{"children", records.VolumeKey(id), fmt.Sprintf("it lists attachment %s as %s, which does not agree with the attachment", a.ID, a.Status)})
			}
		}
	}
	for id, s := range w.snapshots {
		if v, ok := w.volumes[s.Volume]; !ok || !v.HasSnapshot(id) {
			found = append(found, Difference{"children", records.SnapshotKey(id), fmt.Sprintf("its volume %s is missing or does not list it", s.Volume)})
		}
	}
	for id, a := range w.attachments {
		v, ok := w.volumes[a.Volume]
		if !ok || !slices.ContainsFunc(v.Attachments, func(r block.AttachmentRef) bool { return r.ID == id }) {
			found = append(found, Difference{"children", records.AttachmentKey(id), fmt.Sprintf("its volume %s is missing or does not list it", a.Volume)})
		}
	}
	return found
}

// compareIdentities: a backend is one storage, whoever serves it, and a storage is one backend.
func (w *world) compareIdentities() (found []Difference) {
	for _, l := range w.listings {
		if want := w.backends[l.backend].Identity; want != "" && l.Identity != want {
			found = append(found, Difference{"backend", l.backend, fmt.Sprintf("process %s of node %s serves it from a storage with identity %q, the record says %q: "+
				"end that process, and start it with the right one", l.process, l.node, l.Identity, want)})
		}
	}
	names := map[string]string{}
	for _, name := range keys(w.backends, map[string]bool{}) {
		id := w.backends[name].Identity
		if other := names[id]; id != "" && other != "" {
			found = append(found, Difference{"backend", name, fmt.Sprintf("its storage (identity %q) is that of backend %s, too", id, other)})
		}
		names[id] = name
	}
	return found
}

// compareBackends: what stands on a backend stands on one that is known.
func (w *world) compareBackends() (found []Difference) {
	for _, name := range keys(w.standing(), map[string]bool{}) {
		if _, known := w.backends[name]; !known && name != "" {
			found = append(found, Difference{"backend", name, "there is no such backend in the records: " + w.unserved(name)})
		}
	}
	return found
}

// standing is what stands on backends, by their name.
func (w *world) standing() map[string]standing {
	all := map[string]standing{}
	for _, v := range w.volumes {
		s := all[v.Backend]
		s.volumes++
		all[v.Backend] = s
	}
	for _, v := range w.snapshots {
		s := all[v.Backend]
		s.snapshots++
		all[v.Backend] = s
	}
	return all
}

type standing struct{ volumes, snapshots int }

// unserved says what to do with a backend that nobody serves.
func (w *world) unserved(backend string) string {
	start := "start a volume node with --backend " + backend + "=…"
	s, stands := w.standing()[backend]
	if !stands {
		return "nothing stands on it: if it is not wanted any more, scoria backend forget " + backend + "; else " + start
	}
	return fmt.Sprintf("%d volumes and %d snapshots stand on it: %s", s.volumes, s.snapshots, start)
}

// compareObjects: the backends hold what the records say, as every process finds that serves them. What an operation has
// exclusively is passed over: it is being made, changed or removed.
func (w *world) compareObjects() (found []Difference) {
	finders := map[Difference][]string{}
	processes := map[string]int{} // how many listed a backend
	for _, l := range w.listings {
		processes[l.backend]++
		for _, d := range w.compareListing(l) {
			finders[d] = append(finders[d], l.process)
		}
	}
	for d, by := range finders {
		if backend, _, _ := strings.Cut(d.Subject, ":"); len(by) < processes[backend] {
			slices.Sort(by)
			d.Text += fmt.Sprintf(" (so process %s finds, and others do not: they do not serve the same place)", strings.Join(by, ", "))
		}
		found = append(found, d)
	}
	return found
}

func (w *world) compareListing(l listing) (found []Difference) {
	have := map[string]bool{}
	for _, o := range l.Objects {
		have[o.Class+" "+o.ID] = true
		if text := w.objectDiffers(l.backend, o); text != "" {
			found = append(found, Difference{"backend", l.backend + ": " + o.Class + " " + o.ID, text})
		}
	}
	return append(found, w.missing(l.backend, have)...)
}

func (w *world) objectDiffers(backend string, o messages.Object) string {
	switch o.Class {
	case messages.ObjectVolume:
		id := block.VolumeID(o.ID)
		v, ok := w.volumes[id]
		switch {
		case w.held(records.VolumeKey(id)):
			return ""
		case !ok || v.Backend != backend:
			return "orphan: there is no such volume in the records"
		case v.Status == block.VolumeAvailable && o.Bytes != v.SizeGiB.Bytes():
			return fmt.Sprintf("it has %d bytes, the record says %d GiB", o.Bytes, v.SizeGiB)
		}
	case messages.ObjectSnapshot:
		id := block.SnapshotID(o.ID)
		s, ok := w.snapshots[id]
		switch {
		case w.held(records.SnapshotKey(id)):
			return ""
		case !ok || s.Backend != backend:
			return "orphan: there is no such snapshot in the records"
		case s.Status == block.SnapshotAvailable && o.Bytes != s.SizeGiB.Bytes():
			return fmt.Sprintf("it has %d bytes, the record says %d GiB", o.Bytes, s.SizeGiB)
		}
	case messages.ObjectTemporary:
		operation, _, _ := strings.Cut(o.ID, ".") // <operation>.<what it makes>
		if op, ok := w.operations[operation]; !ok || !live(op) {
			return "orphan: a temporary file of an operation that has ended or is not known"
		}
	default:
		return "orphan: an object of an unknown class"
	}
	return ""
}

func (w *world) missing(backend string, have map[string]bool) (found []Difference) {
	for id, v := range w.volumes {
		if v.Backend == backend && v.Status == block.VolumeAvailable && !have[messages.ObjectVolume+" "+string(id)] && !w.held(records.VolumeKey(id)) {
			found = append(found, Difference{"backend", backend + ": volume " + string(id), "the record says available, but the backend does not have it"})
		}
	}
	for id, s := range w.snapshots {
		if s.Backend == backend && s.Status == block.SnapshotAvailable && !have[messages.ObjectSnapshot+" "+string(id)] && !w.held(records.SnapshotKey(id)) {
			found = append(found, Difference{"backend", backend + ": snapshot " + string(id), "the record says available, but the backend does not have it"})
		}
	}
	return found
}

// keys returns the keys of both maps, each once, in order.
func keys[V, W any](a map[string]V, b map[string]W) []string {
	var all []string
	for k := range a {
		all = append(all, k)
	}
	for k := range b {
		if _, twice := a[k]; !twice {
			all = append(all, k)
		}
	}
	slices.Sort(all)
	return all
}
