package rest

import "net/http"

// versions answers with the version document.
func (c *call) versions(status int) error {
	b := append(getBuffer(), `{"versions": [{"id": "v3.0", "status": "CURRENT", "version": "`+mvMax.String()+`", "min_version": "`+microversion(0).String()+
		`", "updated": "2023-08-31T00:00:00Z", "links": [{"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"}, `+
		`{"rel": "self", "href": `...)
	b = appendString(b, c.root()+"/v3/")
	b = append(b, `}], "media-types": [{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}]}]}`...)
	return c.reply(status, b)
}

// redirectToVersion sends clients that left the slash out to the version document.
func (c *call) redirectToVersion() error {
	h := c.header()
	h["Location"] = []string{c.root() + "/v3/"}
	h["Content-Type"] = []string{"text/plain; charset=UTF-8"}
	c.WriteHeader(http.StatusFound)
	_, _ = c.Write([]byte("302 Found\n\nThe resource was found at " + c.root() + "/v3/; you should be redirected automatically.\n"))
	return nil
}
