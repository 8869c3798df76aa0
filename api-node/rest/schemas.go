package rest

import (
	"regexp"

	"github.com/scoria-storage/scoria/messages/block"
)

// The schemas of the bodies, as Cinder has them.

var (
	anyString  = []string{"string"}
	orNull     = []string{"string", "null"}
	anyObject  = []string{"object"}
	objectNull = []string{"object", "null"}

	freeText       = &schema{types: orNull, maxLen: 255}
	trimmedName    = &schema{types: orNull, text255: "name"}
	trimmedText    = &schema{types: orNull, text255: "description"}
	printableText  = &schema{types: orNull, maxLen: 255, pattern: regexp.MustCompile(`^[^\x00-\x1f\x7f-\x{9f}]*$`)}
	zoneText       = &schema{types: orNull, minLen: 1, maxLen: 255}
	uuidText       = &schema{types: anyString, uuid: true}
	uuidOrNull     = &schema{alternatives: []*schema{{types: []string{"null"}}, uuidText}}
	metadataKeys   = regexp.MustCompile(`^[a-zA-Z0-9-_:. /]{1,255}$`)
	metadataValue  = &schema{types: anyString, maxLen: 255}
	metadataMap    = &schema{types: anyObject, keyPattern: metadataKeys, patternProp: metadataValue}
	metadataOrNull = &schema{types: objectNull, keyPattern: metadataKeys, patternProp: metadataValue}
	sizePattern    = regexp.MustCompile(`^[0-9]+$`)
	sizeValue      = &schema{types: []string{"integer", "string"}, pattern: sizePattern, min: 1, max: int64(block.MaxSize)}
	sizeOrNull     = &schema{types: []string{"integer", "string", "null"}, pattern: sizePattern, min: 1, max: int64(block.MaxSize)}
	boolValue      = &schema{types: []string{"boolean", "string"}, enum: []any{true, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t",
		false, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"}}
	boolOrNull = &schema{alternatives: []*schema{{types: []string{"null"}}, boolValue}}
	anything   = &schema{}
)

// wrapped is the schema of {name: inner}.
func wrapped(name string, inner *schema, more ...prop) *schema {
	return &schema{types: anyObject, props: append([]prop{{name, inner}}, more...), required: []string{name}}
}

// Bodies of volumes. The fields that later microversions added are checked by those only; before 3.53 fields that are not
// known are ignored.
var (
	createVolumeSchema  = volumeSchema(true)
	createVolumeSchema3 = volumeSchema(true, prop{"group_id", freeText})
	createVolumeSchema4 = volumeSchema(true, prop{"group_id", freeText}, prop{"backup_id", uuidOrNull})
	createVolumeSchema5 = volumeSchema(false, prop{"group_id", freeText}, prop{"backup_id", uuidOrNull})

	updateVolumeSchema  = wrapped("volume", &schema{types: anyObject, props: updateVolumeProps})
	updateVolumeSchema5 = wrapped("volume", &schema{types: anyObject, props: updateVolumeProps,
		anyOf: []string{"name", "description", "display_name", "display_description", "metadata"}})

	extendSchema = wrapped("os-extend", &schema{types: anyObject, props: []prop{{"new_size", sizeValue}}, required: []string{"new_size"}})
	revertSchema = wrapped("revert", &schema{types: anyObject, props: []prop{{"snapshot_id", &schema{types: orNull}}}, open: true})
)

var updateVolumeProps = []prop{{"name", trimmedName}, {"description", trimmedText}, {"display_name", trimmedName},
	{"display_description", trimmedText}, {"metadata", metadataMap}}

func volumeSchema(open bool, more ...prop) *schema {
	props := []prop{
		{"name", trimmedName}, {"description", trimmedText}, {"display_name", trimmedName}, {"display_description", trimmedText},
		{"volume_type", freeText}, {"metadata", metadataOrNull}, {"snapshot_id", uuidOrNull}, {"source_volid", uuidOrNull},
		{"consistencygroup_id", uuidOrNull}, {"size", sizeOrNull}, {"availability_zone", zoneText}, {"multiattach", boolOrNull},
		{"image_id", freeText}, {"imageRef", freeText},
	}
	inner := &schema{types: anyObject, props: append(props, more...), open: open}
	return wrapped("volume", inner, prop{"OS-SCH-HNT:scheduler_hints", &schema{types: objectNull}})
}

// Bodies of snapshots.
var (
	createSnapshotSchema = wrapped("snapshot", &schema{types: anyObject, required: []string{"volume_id"}, props: []prop{
		{"name", freeText}, {"display_name", freeText}, {"description", printableText}, {"volume_id", uuidOrNull},
		{"force", boolValue}, {"metadata", metadataOrNull},
	}})
	updateSnapshotSchema = wrapped("snapshot", &schema{types: anyObject, props: []prop{
		{"name", freeText}, {"description", printableText}, {"display_name", freeText}, {"display_description", printableText},
	}, anyOf: []string{"name", "description", "display_name", "display_description"}})
)

// connectorSchema is of what a host says of itself: what is read of it must be text.
func connectorSchema(types []string, minProps int) *schema {
	return &schema{types: types, minProps: minProps, open: true,
		props: []prop{{"host", &schema{types: orNull}}, {"mountpoint", &schema{types: orNull}}, {"mode", &schema{types: orNull}}}}
}

// Bodies of attachments.
var (
	createAttachmentProps = []prop{{"instance_uuid", uuidText}, {"connector", connectorSchema(objectNull, 0)}, {"volume_uuid", uuidText}}

	createAttachmentSchema = wrapped("attachment", &schema{types: anyObject, props: createAttachmentProps, required: []string{"volume_uuid"}})
	attachmentModeSchema   = wrapped("attachment", &schema{types: anyObject, required: []string{"volume_uuid"},
		props: append(createAttachmentProps[:len(createAttachmentProps):len(createAttachmentProps)], prop{"mode", &schema{types: anyString, enum: []any{"rw", "ro"}}})})
	updateAttachmentSchema = wrapped("attachment", &schema{types: anyObject, required: []string{"connector"},
		props: []prop{{"connector", connectorSchema(anyObject, 1)}}})
	completeSchema = wrapped("os-complete", anything)
)
