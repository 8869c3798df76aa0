package rest

import (
	"net/http"
	"strings"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/messages"
)

// There is one volume type. Types cannot be edited in this release.
const (
	// defaultTypeID never changes: clients keep it.
	defaultTypeID   = "893241f9-4f13-5cab-a4be-d44fa1e32ce4"
	defaultTypeName = admit.DefaultType
)

// typeName is the name of the type that a record names.
func typeName(recorded string) string {
	if recorded == "" {
		return defaultTypeName
	}
	return recorded
}

// typeByNameOrID returns the name of the type that a body names; "" for the default.
func typeByNameOrID(s string) (string, error) {
	switch {
	case s == "" || s == defaultTypeName || canonicalUUID(s) == defaultTypeID:
		return defaultTypeName, nil
	case canonicalUUID(s) != "":
		return "", messages.TypeNotFound(s)
	}
	return "", messages.TypeNameNotFound(s)
}

func (c *call) appendType(b []byte) []byte {
	b = append(b, `{"id": "`+defaultTypeID+`", "name": "`+defaultTypeName+`", "is_public": true, "description": "Default Volume Type", "extra_specs": {}`...)
	if c.who.Admin {
		b = append(b, `, "qos_specs_id": null`...)
	}
	return append(b, '}')
}

// typeOf checks the ID of the path.
func (c *call) typeOf() error {
	if id := c.r.PathValue("id"); id != defaultTypeID && id != "default" {
		return messages.TypeNotFound(id)
	}
	return nil
}

func (c *call) listTypes() error {
	q, err := c.listQuery()
	if err != nil {
		return err
	}
	if _, err := comparer(&q, typeOrder); err != nil {
		return err
	}
	if q.marker != "" && q.marker != defaultTypeID {
		return messages.TypeNotFound(q.marker)
	}
	keep, err := c.keepType(&q)
	if err != nil {
		return err
	}
	rows := func(yield func(struct{}) bool) { yield(struct{}{}) }
	var marker *struct{}
	if q.marker != "" {
		marker = &struct{}{}
	}
	found, total := page(&q, rows, func(struct{}) bool { return keep }, equal[struct{}], marker)
	q.count = false // types know no with_count
	b := append(getBuffer(), `{"volume_types": [`...)
	if len(found) > 0 {
		b = c.appendType(b)
	}
	return c.reply(http.StatusOK, c.appendListEnd(b, &q, "volume_type", "types", len(found), defaultTypeID, total))
}

var typeOrder = map[string]func(a, b struct{}) int{
	"id": equal[struct{}], "name": equal[struct{}], "created_at": equal[struct{}], "updated_at": equal[struct{}],
	"is_public": equal[struct{}], "description": equal[struct{}], "qos_specs_id": equal[struct{}],
}

// typeFilters are what resource_filters says of types, as in Cinder.
var typeFilters = []string{"is_public", "extra_specs"}

// keepType reports whether the one type passes the filters.
func (c *call) keepType(q *query) (bool, error) {
	keep := true
	for name, value := range q.filters {
		switch name {
		case "is_public":
			if !c.who.Admin || strings.EqualFold(value, "none") {
				continue
			}
			public, err := boolParam("is_public", value)
			if err != nil {
				return false, badRequest("Invalid is_public filter [%s]", clip(value))
			}
			keep = keep && public
		case "extra_specs":
			if c.mv < mvTypeFilter {
				continue
			}
			specs, err := pyLiteral(value)
			o, ok := specs.(object)
			keep = keep && err == nil && ok && len(o) == 0
		case "name":
			keep = keep && value == defaultTypeName
		case "description":
			keep = keep && value == "Default Volume Type"
		default:
			if !c.who.Admin && c.mv >= mvTypeFilter {
				return false, badRequest("Invalid filters %s are found in query options.", clip(name))
			}
		}
	}
	return keep, nil
}

func (c *call) showType() error {
	if err := c.typeOf(); err != nil {
		return err
	}
	b := append(getBuffer(), `{"volume_type": `...)
	return c.reply(http.StatusOK, append(c.appendType(b), '}'))
}

func (c *call) showExtraSpecs() error {
	if err := c.typeOf(); err != nil {
		return err
	}
	return c.reply(http.StatusOK, append(getBuffer(), `{"extra_specs": {}}`...))
}

func (c *call) showExtraSpec() error {
	if err := c.typeOf(); err != nil {
		return err
	}
	return notFound("Volume Type %s has no extra specs with key %s.", defaultTypeID, clip(c.r.PathValue("key")))
}

// showTypeEncryption: no type encrypts.
func (c *call) showTypeEncryption() error {
	if err := c.typeOf(); err != nil {
		return err
	}
	return c.reply(http.StatusOK, append(getBuffer(), `{}`...))
}

func (c *call) showTypeAccess() error {
	if err := c.typeOf(); err != nil {
		return err
	}
	return notFound("Access list not available for public volume types.")
}
