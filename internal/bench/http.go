package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const project = "bench"

// headerOperation names the operation of an answer.
const headerOperation = "X-Scoria-Operation-Id"

// answerLimit is how long an answer is waited for.
const answerLimit = 2 * time.Minute

// caller is the HTTP client of the load: each call writes its request to a connection of its own and reads the answer there, without
// the goroutines of net/http's client, because the load shares its machine with what it measures.
type caller struct {
	host string
	// name is what this run calls all that it makes.
	name string
	idle chan *conn
}

// conn is one connection that is kept open.
type conn struct {
	net.Conn
	in  *bufio.Reader
	out []byte
}

// newCaller makes a client for so many calls at the same time. The endpoint is http://HOST:PORT.
func newCaller(endpoint string, workers int) (*caller, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("setting endpoint: value %q: want http://HOST:PORT", endpoint)
	}
	return &caller{host: u.Host, name: "bench-" + uuid.NewString()[:8], idle: make(chan *conn, 2*workers)}, nil
}

func (c *caller) conn(ctx context.Context) (*conn, error) {
	select {
	case k := <-c.idle:
		return k, nil
	default:
	}
	var d net.Dialer
	n, err := d.DialContext(ctx, "tcp", c.host)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: n, in: bufio.NewReaderSize(n, 64<<10)}, nil
}

func (c *caller) give(k *conn) {
	select {
	case c.idle <- k:
	default:
		k.Close()
	}
}

// close closes the connections that nobody uses.
func (c *caller) close() {
	for {
		select {
		case k := <-c.idle:
			k.Close()
		default:
			return
		}
	}
}

// do sends a request and reads the whole answer.
func (c *caller) do(ctx context.Context, method, path string, body []byte) ([]byte, http.Header, error) {
	k, err := c.conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	data, head, err := k.exchange(ctx, c.host, method, path, body)
	if err != nil {
		k.Close()
		return nil, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	c.give(k)
	if head.code >= http.StatusMultipleChoices {
		return nil, nil, &answerError{head.code, fmt.Sprintf("%s %s: %s: %.300s", method, path, head.status, strings.Join(strings.Fields(string(data)), " "))}
	}
	return data, head.fields, nil
}

// answerError is an answer that is no success.
type answerError struct {
	code int
	text string
}

func (e *answerError) Error() string { return e.text }

// head is what an answer begins with.
type head struct {
	code   int
	status string
	fields http.Header
}

func (k *conn) exchange(ctx context.Context, host, method, path string, body []byte) ([]byte, head, error) {
	stop := context.AfterFunc(ctx, func() { _ = k.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := k.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return nil, head{}, err
	}
	b := k.out[:0]
	b = append(b, method...)
	b = append(append(append(b, ' '), path...), " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\nX-Auth-Token: admin:"+project+"\r\nOpenStack-API-Version: volume 3.71\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(append(b, "\r\n\r\n"...), body...)
	k.out = b
	if _, err := k.Write(b); err != nil {
		return nil, head{}, err
	}
	resp, err := http.ReadResponse(k.in, nil)
	if err != nil {
		return nil, head{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return data, head{resp.StatusCode, resp.Status, resp.Header}, err
}

// create asks for a volume with these fields, in JSON, and returns its ID and the operation's.
func (c *caller) create(ctx context.Context, fields string) (volume, operation string, err error) {
	data, header, err := c.do(ctx, http.MethodPost, "/v3/"+project+"/volumes", []byte(`{"volume":{"name":"`+c.name+`",`+fields+`}}`))
	if err != nil {
		return "", "", err
	}
	var out struct{ Volume struct{ ID string } }
	if err := json.Unmarshal(data, &out); err != nil {
		return "", "", err
	}
	return out.Volume.ID, header.Get(headerOperation), nil
}

// ended waits until the operation has ended and did what was asked.
func (c *caller) ended(ctx context.Context, operation string) error {
	for {
		data, _, err := c.do(ctx, http.MethodGet, "/scoria/v1/operations/"+operation+"/wait?timeout=30s", nil)
		if err != nil {
			return err
		}
		var out struct {
			Operation struct {
				Phase, Error string
				Ended        bool
			}
		}
		if err := json.Unmarshal(data, &out); err != nil {
			return err
		}
		switch {
		case out.Operation.Phase == "done":
			return nil
		case out.Operation.Ended || out.Operation.Phase == "stuck":
			return fmt.Errorf("operation %s is %s: %s", operation, out.Operation.Phase, out.Operation.Error)
		}
	}
}

// drained waits until no operation of the project is under way.
func (c *caller) drained(ctx context.Context) error {
	for {
		data, _, err := c.do(ctx, http.MethodGet, "/scoria/v1/operations?live=true&limit=1&project="+project, nil)
		if err != nil {
			return err
		}
		var out struct{ Operations []json.RawMessage }
		if err := json.Unmarshal(data, &out); err != nil {
			return err
		}
		if len(out.Operations) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
