package rest

import (
	"net/http"
	"strconv"
	"strings"
)

// microversion is N of the version 3.N.
type microversion int

// The microversions that change what this package does. Each is the first that has it.
const (
	mvBootableStrict  microversion = 2
	mvSummary         microversion = 12
	mvGroupVolume     microversion = 13
	mvGroupSnapshots  microversion = 14
	mvProviderID      microversion = 21
	mvSnapshotMeta    microversion = 22
	mvDeleteForce     microversion = 23
	mvAttachments     microversion = 27
	mvSnapshotSort    microversion = 30
	mvResourceFilter  microversion = 31
	mvFilterConfig    microversion = 33
	mvLikeFilter      microversion = 34
	mvSummaryMetadata microversion = 36
	mvLimitsProject   microversion = 39
	mvRevert          microversion = 40
	mvSnapshotUserID  microversion = 41
	mvExtendInUse     microversion = 42
	mvComplete        microversion = 44
	mvCount           microversion = 45
	mvFromBackup      microversion = 47
	mvSharedTargets   microversion = 48
	mvTypeFilter      microversion = 52
	mvStrictSchema    microversion = 53
	mvAttachMode      microversion = 54
	mvClusterName     microversion = 61
	mvTypeID          microversion = 63
	mvUseQuota        microversion = 65
	mvSnapshotInUse   microversion = 66
	mvMax             microversion = 71
)

const (
	versionHeader = "Openstack-Api-Version" // in canonical form
	majorVersion  = 3
)

func (m microversion) String() string { return strconv.Itoa(majorVersion) + "." + strconv.Itoa(int(m)) }

// versionStrings are the values of the version header, made once.
var versionStrings = func() (s [mvMax + 1][]string) {
	for m := range s {
		s[m] = []string{"volume " + microversion(m).String()}
	}
	return s
}()

// negotiate reads the wanted version. The header may list several services, separated by commas; "block-storage" is the
// name that the service has in the catalog, and some clients use it for "volume".
func negotiate(h http.Header) (microversion, error) {
	values, present := h[versionHeader]
	if !present {
		return 0, nil
	}
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if !strings.Contains(item, "volume") && !strings.Contains(item, "block-storage") {
				continue
			}
			parts := strings.Fields(item)
			if len(parts) != 2 || parts[0] != "volume" && parts[0] != "block-storage" {
				return 0, badRequest("%s: %s is of invalid format. Must be 'volume MajorNum.MinorNum' or 'volume latest'.", headerName, pyRepr(clip(strings.TrimSpace(item))))
			}
			if parts[1] == "latest" {
				return mvMax, nil
			}
			return parseVersion(parts[1])
		}
	}
	return 0, badRequest("%s names no version of the service 'volume'.", headerName)
}

const headerName = "OpenStack-API-Version"

func parseVersion(s string) (microversion, error) {
	major, minor, ok := strings.Cut(s, ".")
	if !ok || !digits(major) || !digits(minor) || major[0] == '0' || len(minor) > 1 && minor[0] == '0' {
		return 0, badRequest("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", clip(s))
	}
	n, err := strconv.Atoi(minor)
	if major != strconv.Itoa(majorVersion) || err != nil || n > int(mvMax) {
		f := newFault(http.StatusNotAcceptable, "Version %s is not supported by the API. Minimum is %s and maximum is %s.", clip(s), microversion(0), mvMax)
		f.version = "volume " + clip(s)
		return 0, f
	}
	return microversion(n), nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// clip shortens a text of the caller's, for messages.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	i := most
	for i > 0 && s[i]&0xC0 == 0x80 { // do not cut a character
		i--
	}
	return s[:i] + "…"
}
