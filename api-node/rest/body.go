package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"unicode/utf8"

	"github.com/scoria-storage/scoria/messages"
)

// maxDrained bounds what is read and thrown away of a body that is too large, so that a client that sends first and
// reads then gets its answer instead of a reset connection.
const maxDrained = 64 << 20

// object is a JSON object; numbers in it are json.Number.
type object = map[string]any

// readBody returns the bytes of the body; nil where it is empty or where the client did not say that it is JSON.
func (c *call) readBody() ([]byte, error) {
	limit := c.api.cfg.MaxBody
	body, err := io.ReadAll(io.LimitReader(c.r.Body, limit+1))
	if err != nil {
		return nil, badRequest("The body of the request could not be read: %v", err)
	}
	if int64(len(body)) > limit {
		_, _ = io.CopyN(io.Discard, c.r.Body, maxDrained)
		return nil, newFault(http.StatusRequestEntityTooLarge, "Request is too large. The body has more than %d bytes.", limit)
	}
	if len(body) == 0 {
		return nil, nil
	}
	if c.r.Header.Get("Content-Type") == "" {
		return nil, nil
	}
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && kind != "application/vnd.openstack.volume+json" {
		return nil, newFault(http.StatusUnsupportedMediaType, "Unsupported Content-Type")
	}
	return body, nil
}

// decode returns the body, which must be one JSON object.
func (c *call) decode() (object, error) {
	body, err := c.readBody()
	if err != nil {
		return nil, err
	}
	if body == nil {
		return nil, badRequest(textNoBody)
	}
	return parseObject(body)
}

// parseObject reads the bytes of every body: one JSON object in which no key stands twice.
func parseObject(body []byte) (object, error) {
	if !utf8.Valid(body) {
		return nil, badRequest(textMalformed)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, badRequest(textMalformed)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest(textMalformed)
	}
	o, ok := v.(object)
	if !ok {
		return nil, badRequest(textMalformed)
	}
	if key, twice := messages.KeyTwice(body); twice {
		return nil, badRequest(textMalformed+": the key %s stands twice in one object", pyRepr(clip(key)))
	}
	return o, nil
}

// validBody decodes the body and holds it against the schema.
func (c *call) validBody(s *schema) (object, error) {
	o, err := c.decode()
	if err != nil {
		return nil, err
	}
	if err := s.check(o); err != nil {
		return nil, err
	}
	return o, nil
}
