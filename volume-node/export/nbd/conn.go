package nbd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// conn is one client's connection.
type conn struct {
	server *Server
	nc     net.Conn
	in     *bufio.Reader
	ctx    context.Context // of the requests under way; the cause is errCut when the client is cut off
	cancel context.CancelCauseFunc
	export *export // guarded by server.mu
}

// inBytes is how much is read from a client at once: enough for many headers, little enough that large writes go past it.
const inBytes = 32 << 10

// cutGrace is how long a client that is cut off may take to read the answers that are under way.
const cutGrace = time.Second

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, nc: nc, in: bufio.NewReaderSize(nc, inBytes)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// run serves the client until it goes or is cut off, and closes the connection. When it returns, nothing that the client
// asked for is being carried out.
func (c *conn) run() {
	defer c.nc.Close()
	defer c.cancel(nil)
	log := c.server.log
	if !c.deadline(time.Now().Add(c.server.cfg.HandshakeLimit)) {
		return
	}
	h := &handshake{conn: c}
	device, s, err := h.run()
	if err != nil {
		if !gone(err) {
			log.Info("client refused in the handshake", "error", err)
		}
		return
	}
	if device == nil {
		return // the client wanted no more
	}
	if !c.deadline(time.Time{}) {
		return
	}
	log.Debug("client connected", "export", h.name)
	err = newTransmission(c, device, s).run()
	if err != nil && !gone(err) {
		log.Warn("client disconnected", "export", h.name, "error", err)
		return
	}
	log.Debug("client gone", "export", h.name)
}

// deadline limits how long the client may take from now on, unless it was cut off meanwhile: then it says false.
func (c *conn) deadline(t time.Time) bool {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	_ = c.nc.SetDeadline(t)
	return true
}

// cut ends the connection from outside: nothing more is read, what waits gives up, and what is answered must be
// read soon. The caller holds server.mu, so that it cannot cross unhurry.
func (c *conn) cut() {
	c.cancel(errCut)
	now := time.Now()
	_ = c.nc.SetReadDeadline(now)
	_ = c.nc.SetWriteDeadline(now.Add(cutGrace))
}

// gone says whether err means only that the connection ended.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errBroken)
}
