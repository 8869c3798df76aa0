package natstest

import (
	"bytes"
	"net"
	"sync/atomic"
)

// Lossy makes connections that lose one thing which the client says: see nats.SetCustomDialer.
type Lossy struct{ what atomic.Pointer[string] }

// Lose loses what is written next that contains the text, with all that is written at the same moment.
func (l *Lossy) Lose(text string) { l.what.Store(&text) }

// Lost says whether that has happened.
func (l *Lossy) Lost() bool { return l.what.Load() == nil }

// Dial is that of nats.CustomDialer.
func (l *Lossy) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return lossyConn{c, l}, err
}

type lossyConn struct {
	net.Conn
	l *Lossy
}

func (c lossyConn) Write(b []byte) (int, error) {
	if what := c.l.what.Load(); what != nil && bytes.Contains(b, []byte(*what)) && c.l.what.CompareAndSwap(what, nil) {
		return len(b), nil
	}
	return c.Conn.Write(b)
}
