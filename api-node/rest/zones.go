package rest

import "net/http"

// zoneOf is the availability zone of what names none.
func (c *call) zoneOf(zone string) string {
	if zone == "" {
		return c.api.cfg.Zone
	}
	return zone
}

// listZones tells the zones of the backends. A zone is available: whether its nodes are is seen only when they work.
func (c *call) listZones() error {
	zones := map[string]bool{}
	for _, b := range c.reader().Backends() {
		zones[c.zoneOf(b.Zone)] = true
	}
	if len(zones) == 0 {
		zones[c.api.cfg.Zone] = true
	}
	b := append(getBuffer(), `{"availabilityZoneInfo": [`...)
	for i, z := range sortedNames(zones) {
		b = appendComma(b, i)
		b = append(b, `{"zoneName": `...)
		b = appendString(b, z)
		b = append(b, `, "zoneState": {"available": true}}`...)
	}
	return c.reply(http.StatusOK, append(b, "]}"...))
}
