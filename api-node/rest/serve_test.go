package rest

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestShutdownDoesNotWaitForAConnectionWithoutARequest(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s.get("/healthz") // on a connection of its own, which was accepted after the other one
	s.stop()
	if err := conn.SetReadDeadline(time.Now().Add(4 * time.Second)); err != nil { // net/http itself waits for 5 s
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}
