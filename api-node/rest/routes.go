package rest

import (
	"net/http"
	"strings"
)

// route is a method and a path below /v3/ or /v3/{project}/.
type route struct {
	pattern string
	min     microversion
	do      handler
}

// built are the routes that this release answers.
var built = []route{
	{"GET /volumes", 0, (*call).listVolumes},
	{"POST /volumes", 0, (*call).createVolume},
	{"GET /volumes/detail", 0, (*call).listVolumeDetails},
	{"GET /volumes/summary", mvSummary, (*call).summarizeVolumes},
	{"GET /volumes/{id}", 0, (*call).showVolume},
	{"PUT /volumes/{id}", 0, (*call).updateVolume},
	{"DELETE /volumes/{id}", 0, (*call).deleteVolume},
	{"POST /volumes/{id}/action", 0, (*call).actOnVolume},
	{"GET /volumes/{id}/metadata", 0, (*call).showVolumeMetadata},
	{"GET /volumes/{id}/metadata/{key}", 0, (*call).showVolumeMetadatum},
	{"GET /volumes/{id}/encryption", 0, (*call).showEncryption},
	{"GET /volumes/{id}/encryption/{key}", 0, (*call).showEncryptionItem},

	{"GET /snapshots", 0, (*call).listSnapshots},
	{"POST /snapshots", 0, (*call).createSnapshot},
	{"GET /snapshots/detail", 0, (*call).listSnapshotDetails},
	{"GET /snapshots/{id}", 0, (*call).showSnapshot},
	{"PUT /snapshots/{id}", 0, (*call).updateSnapshot},
	{"DELETE /snapshots/{id}", 0, (*call).deleteSnapshot},
	{"POST /snapshots/{id}/action", 0, (*call).actOnSnapshot},
	{"GET /snapshots/{id}/metadata", 0, (*call).showSnapshotMetadata},
	{"GET /snapshots/{id}/metadata/{key}", 0, (*call).showSnapshotMetadatum},

	{"GET /attachments", mvAttachments, (*call).listAttachments},
	{"POST /attachments", mvAttachments, (*call).createAttachment},
	{"GET /attachments/detail", mvAttachments, (*call).listAttachmentDetails},
	{"GET /attachments/{id}", mvAttachments, (*call).showAttachment},
	{"PUT /attachments/{id}", mvAttachments, (*call).updateAttachment},
	{"DELETE /attachments/{id}", mvAttachments, (*call).deleteAttachment},
	{"POST /attachments/{id}/action", mvAttachments, (*call).completeAttachment},

	{"GET /types", 0, (*call).listTypes},
	{"GET /types/{id}", 0, (*call).showType},
	{"GET /types/{id}/extra_specs", 0, (*call).showExtraSpecs},
	{"GET /types/{id}/extra_specs/{key}", 0, (*call).showExtraSpec},
	{"GET /types/{id}/encryption", 0, (*call).showTypeEncryption},
	{"GET /types/{id}/os-volume-type-access", 0, (*call).showTypeAccess},

	{"POST /types/{id}/action", 0, func(c *call) error { return c.act(typeActions) }},
	{"POST /backups/{id}/action", 0, func(c *call) error { return c.act(backupActions) }},
	{"POST /groups/{id}/action", mvGroupVolume, func(c *call) error { return c.act(groupActions) }},
	{"POST /groups/action", mvGroupSnapshots, func(c *call) error { return c.act(groupsActions) }},
	{"POST /group_snapshots/{id}/action", mvGroupSnapshots, func(c *call) error { return c.act(groupSnapshotActions) }},

	{"GET /limits", 0, (*call).showLimits},
	{"GET /os-availability-zone", 0, (*call).listZones},
	{"GET /extensions", 0, (*call).listExtensions},
	{"GET /extensions/{alias}", 0, (*call).showExtension},
	{"GET /resource_filters", mvFilterConfig, (*call).listFilters},
}

// unbuilt are Cinder's other routes, by what they are about. They answer 501.
var unbuilt = []struct {
	what   string
	min    microversion
	routes string // method and path, separated by ", "; several methods joined by |
}{
	{"changing metadata", 0, "POST|PUT /volumes/{id}/metadata, PUT|DELETE /volumes/{id}/metadata/{key}, " +
		"POST|PUT /snapshots/{id}/metadata, PUT|DELETE /snapshots/{id}/metadata/{key}"},
	{"editing volume types", 0, "POST /types, PUT|DELETE /types/{id}, POST /types/{id}/extra_specs, PUT|DELETE /types/{id}/extra_specs/{key}, " +
		"POST /types/{id}/encryption, GET|PUT|DELETE /types/{id}/encryption/{key}"},
	{"default types of projects", 62, "GET /default-types, GET|PUT|DELETE /default-types/{id}"},
	{"quota sets", 0, "GET|PUT|DELETE /os-quota-sets/{id}, GET /os-quota-sets/{id}/defaults"},
	{"quota classes", 0, "GET|PUT /os-quota-class-sets/{id}"},
	{"backups", 0, "GET|POST /backups, GET /backups/detail, GET|DELETE /backups/{id}, POST /backups/{id}/restore, " +
		"GET /backups/{id}/export_record, POST /backups/import_record"},
	{"changing backups", 9, "PUT /backups/{id}"},
	{"volume transfers", 55, "GET|POST /volume-transfers, GET /volume-transfers/detail, GET|DELETE /volume-transfers/{id}, POST /volume-transfers/{id}/accept"},
	{"volume transfers", 0, "GET|POST /os-volume-transfer, GET /os-volume-transfer/detail, GET|DELETE /os-volume-transfer/{id}, POST /os-volume-transfer/{id}/accept"},
	{"groups", 13, "GET|POST /groups, GET /groups/detail, GET|PUT /groups/{id}"},
	{"group snapshots", 14, "GET|POST /group_snapshots, GET /group_snapshots/detail, GET|DELETE /group_snapshots/{id}"},
	{"group types", 11, "GET|POST /group_types, GET|PUT|DELETE /group_types/{id}, GET|POST /group_types/{id}/group_specs, " +
		"GET|PUT|DELETE /group_types/{id}/group_specs/{key}"},
	{"consistency groups", 0, "GET|POST /consistencygroups, GET /consistencygroups/detail, GET /consistencygroups/{id}, PUT /consistencygroups/{id}/update, " +
		"PUT /consistencygroups/{id}, POST /consistencygroups/{id}/delete, POST /consistencygroups/create_from_src"},
	{"consistency group snapshots", 0, "GET|POST /cgsnapshots, GET /cgsnapshots/detail, GET|DELETE /cgsnapshots/{id}"},
	{"user messages", 3, "GET /messages, GET|DELETE /messages/{id}"},
	{"QoS specifications", 0, "GET|POST /qos-specs, GET|PUT|DELETE /qos-specs/{id}, PUT /qos-specs/{id}/delete_keys, GET /qos-specs/{id}/associations, " +
		"GET /qos-specs/{id}/associate, GET /qos-specs/{id}/disassociate, GET /qos-specs/{id}/disassociate_all"},
	{"services", 0, "GET /os-services, PUT /os-services/enable, PUT /os-services/disable, PUT /os-services/disable-log-reason, PUT /os-services/freeze, " +
		"PUT /os-services/thaw, PUT /os-services/failover_host"},
	{"failover of clusters", 26, "PUT /os-services/failover"},
	{"log levels of services", 32, "PUT /os-services/set-log, PUT /os-services/get-log"},
	{"clusters", 7, "GET /clusters, GET /clusters/detail, GET /clusters/{id}, PUT /clusters/enable, PUT /clusters/disable"},
	{"cleaning up after workers", 24, "POST /workers/cleanup"},
	{"pools of the scheduler", 0, "GET /scheduler-stats/get_pools"},
	{"capabilities of backends", 0, "GET /capabilities/{id}"},
	{"hosts", 0, "GET /os-hosts, GET|PUT /os-hosts/{id}"},
	{"taking volumes into management", 8, "GET|POST /manageable_volumes, GET /manageable_volumes/detail"},
	{"taking snapshots into management", 8, "GET|POST /manageable_snapshots, GET /manageable_snapshots/detail"},
	{"taking volumes into management", 0, "GET|POST /os-volume-manage, GET /os-volume-manage/detail"},
	{"taking snapshots into management", 0, "GET|POST /os-snapshot-manage, GET /os-snapshot-manage/detail"},
}

// The actions on what is not built.
var (
	typeActions   = map[string]action{"addProjectAccess": {what: "give a project access"}, "removeProjectAccess": {what: "take access from a project"}}
	backupActions = map[string]action{"os-reset_status": {what: "set the status by hand"}, "os-force_delete": {what: "delete by force"}}
	groupActions  = map[string]action{
		"delete": {what: "delete a group"}, "reset_status": {min: 20, what: "set the status by hand"},
		"enable_replication": {min: 38, what: "replicate a group"}, "disable_replication": {min: 38, what: "stop the replication of a group"},
		"failover_replication": {min: 38, what: "fail a group over"}, "list_replication_targets": {min: 38, what: "list where a group is replicated"},
	}
	groupsActions        = map[string]action{"create-from-src": {min: mvGroupSnapshots, what: "create a group from a source"}}
	groupSnapshotActions = map[string]action{"reset_status": {min: 19, what: "set the status by hand"}}
)

// volumeRoutes makes the routes of the Block Storage API and the set of its collections.
func (a *API) volumeRoutes() (*http.ServeMux, map[string]bool) {
	mux, known := http.NewServeMux(), map[string]bool{}
	add := func(pattern string, min microversion, h handler) {
		mux.HandleFunc(pattern, handle(pattern, min, h))
		_, path, _ := strings.Cut(pattern, "/")
		collection, _, _ := strings.Cut(path, "/")
		known[collection] = true
	}
	for _, r := range built {
		add(r.pattern, r.min, r.do)
	}
	for _, u := range unbuilt {
		for item := range strings.SplitSeq(u.routes, ", ") {
			methods, path, _ := strings.Cut(item, " ")
			for method := range strings.SplitSeq(methods, "|") {
				pattern := method + " " + path
				add(pattern, u.min, func(*call) error {
					return notImplemented("%s is not implemented in this release of Scoria (%s).", pattern, u.what)
				})
			}
		}
	}
	mux.HandleFunc("/", unknown)
	return mux, known
}
