// Package nbdtest is a client of the Network Block Device protocol for tests: it can send what no good client sends.
//
// A [Client] is one connection. Its methods are safe for concurrent use and many requests may be under way.
package nbdtest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Commands and flags of the protocol.
const (
	Read        = 0
	Write       = 1
	Disconnect  = 2
	Flush       = 3
	Trim        = 4
	Cache       = 5
	WriteZeroes = 6
	BlockStatus = 7

	FUA      = 1 << 0
	NoHole   = 1 << 1
	DF       = 1 << 2
	ReqOne   = 1 << 3
	FastZero = 1 << 4
)

// Flags of an export.
const (
	ReadOnly  = 1 << 1
	MultiConn = 1 << 8
)

// Extent is a part of a block status.
type Extent struct {
	Bytes uint32
	State uint32 // bit 0: hole, bit 1: reads as zeroes
}

// Client is one connection in transmission.
type Client struct {
	Size  int64
	Flags uint16

	nc      net.Conn
	in      *bufio.Reader
	ended   chan struct{}
	writing sync.Mutex
	mu      sync.Mutex
	cookie  uint64
	pending map[uint64]*call
	err     error // why the connection ended
}

type call struct {
	data    []byte // of a read
	extents []Extent
	errno   syscall.Errno
	done    chan error
}

// Option changes how Dial connects.
type Option func(*settings)

type settings struct{ simple, oldName bool }

// Simple does without structured replies.
func Simple() Option { return func(s *settings) { s.simple = true } }

// OldName chooses the export by EXPORT_NAME.
func OldName() Option { return func(s *settings) { s.oldName = true } }

// Dial connects to the export name on a Unix socket.
func Dial(socket, name string, opts ...Option) (*Client, error) {
	nc, err := (&net.Dialer{}).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return nil, err
	}
	return New(nc, name, opts...)
}

// New uses a connection; it closes it if it fails.
func New(nc net.Conn, name string, opts ...Option) (*Client, error) {
	var set settings
	for _, o := range opts {
		o(&set)
	}
	c := &Client{nc: nc, in: bufio.NewReaderSize(nc, 64<<10), ended: make(chan struct{}), pending: map[uint64]*call{}}
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if err := c.handshake(name, set); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("handshake for %s: %w", name, err)
	}
	_ = nc.SetDeadline(time.Time{})
	go c.receive()
	return c, nil
}

func (c *Client) handshake(name string, set settings) error {
	var greeting [18]byte
	if _, err := io.ReadFull(c.in, greeting[:]); err != nil {
		return err
	}
	if string(greeting[:16]) != "NBDMAGICIHAVEOPT" {
		return fmt.Errorf("greeting %q", greeting)
	}
	if _, err := c.nc.Write([]byte{0, 0, 0, 3}); err != nil {
		return err
	}
	if !set.simple {
		if _, err := c.option(8, nil); err != nil {
			return fmt.Errorf("structured replies: %w", err)
		}
		q := appendString(nil, name)
		q = binary.BigEndian.AppendUint32(q, 1)
		if _, err := c.option(10, appendString(q, "base:allocation")); err != nil {
			return fmt.Errorf("metadata context: %w", err)
		}
	}
	if set.oldName {
		if _, err := c.nc.Write(OptionBytes(1, []byte(name))); err != nil {
			return err
		}
		var p [10]byte
		if _, err := io.ReadFull(c.in, p[:]); err != nil {
			return err
		}
		c.Size, c.Flags = int64(binary.BigEndian.Uint64(p[:])), binary.BigEndian.Uint16(p[8:])
		return nil
	}
	data := binary.BigEndian.AppendUint16(appendString(nil, name), 0)
	answers, err := c.option(7, data)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if len(a) == 12 && a[0] == 0 && a[1] == 0 {
			c.Size, c.Flags = int64(binary.BigEndian.Uint64(a[2:])), binary.BigEndian.Uint16(a[10:])
			return nil
		}
	}
	return errors.New("no size in the answer")
}

// option sends an option and returns the data of its answers.
func (c *Client) option(opt uint32, data []byte) ([][]byte, error) {
	if _, err := c.nc.Write(OptionBytes(opt, data)); err != nil {
		return nil, err
	}
	var answers [][]byte
	for {
		var p [20]byte
		if _, err := io.ReadFull(c.in, p[:]); err != nil {
			return nil, err
		}
		kind := binary.BigEndian.Uint32(p[12:])
		data := make([]byte, binary.BigEndian.Uint32(p[16:]))
		if _, err := io.ReadFull(c.in, data); err != nil {
			return nil, err
		}
		switch {
		case kind == 1:
			return answers, nil
		case kind>>31 != 0:
			return nil, &OptionError{Kind: kind, Text: string(data)}
		}
		answers = append(answers, data)
	}
}

// OptionError is a refusal in the handshake.
type OptionError struct {
	Kind uint32
	Text string
}

func (e *OptionError) Error() string { return fmt.Sprintf("refused (%#x): %s", e.Kind, e.Text) }

// OptionBytes is an option as it goes over the wire.
func OptionBytes(opt uint32, data []byte) []byte {
	p := append([]byte(nil), "IHAVEOPT"...)
	p = binary.BigEndian.AppendUint32(p, opt)
	p = binary.BigEndian.AppendUint32(p, uint32(len(data)))
	return append(p, data...)
}

// RequestBytes is the header of a request as it goes over the wire.
func RequestBytes(flags, command uint16, cookie, offset uint64, length uint32) []byte {
	p := binary.BigEndian.AppendUint32(nil, 0x25609513)
	p = binary.BigEndian.AppendUint16(p, flags)
	p = binary.BigEndian.AppendUint16(p, command)
	p = binary.BigEndian.AppendUint64(p, cookie)
	p = binary.BigEndian.AppendUint64(p, offset)
	return binary.BigEndian.AppendUint32(p, length)
}

func appendString(p []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(p, uint32(len(s))), s...)
}

// Do sends a request and waits for its answer: nil, a syscall.Errno, or why the connection ended. A read fills data, a
// write sends it.
func (c *Client) Do(command, flags uint16, offset int64, length uint32, data []byte) error {
	_, err := c.do(command, flags, offset, length, data)
	return err
}

func (c *Client) do(command, flags uint16, offset int64, length uint32, data []byte) (*call, error) {
	k := &call{done: make(chan error, 1)}
	if command == Read {
		k.data = data
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return k, c.err
	}
	c.cookie++
	cookie := c.cookie
	c.pending[cookie] = k
	c.mu.Unlock()

	p := RequestBytes(flags, command, cookie, uint64(offset), length)
	if command == Write {
		p = append(p, data...)
	}
	c.writing.Lock()
	_, err := c.nc.Write(p)
	c.writing.Unlock()
	if err != nil {
		c.fail(err)
	}
	if err := <-k.done; err != nil {
		return k, err
	}
	if k.errno != 0 {
		return k, k.errno
	}
	return k, nil
}

// ReadAt reads len(p) bytes.
func (c *Client) ReadAt(p []byte, off int64) error { return c.Do(Read, 0, off, uint32(len(p)), p) }

// WriteAt writes p.
func (c *Client) WriteAt(p []byte, off int64) error { return c.Do(Write, 0, off, uint32(len(p)), p) }

// Flush flushes.
func (c *Client) Flush() error { return c.Do(Flush, 0, 0, 0, nil) }

// Extents asks for the block status of a range.
func (c *Client) Extents(flags uint16, off int64, n uint32) ([]Extent, error) {
	k, err := c.do(BlockStatus, flags, off, n, nil)
	return k.extents, err
}

// Disconnect says goodbye, waits until the server has closed the connection, and closes it.
func (c *Client) Disconnect() error {
	c.writing.Lock()
	_, err := c.nc.Write(RequestBytes(0, Disconnect, 0, 0, 0))
	c.writing.Unlock()
	if err == nil {
		<-c.ended
	}
	return c.Close()
}

// Close drops the connection.
func (c *Client) Close() error {
	err := c.nc.Close()
	<-c.ended
	return err
}

// Ended is closed when the connection has ended.
func (c *Client) Ended() <-chan struct{} { return c.ended }

// Conn is the connection itself.
func (c *Client) Conn() net.Conn { return c.nc }

func (c *Client) receive() {
	defer close(c.ended)
	for {
		if err := c.answer(); err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = fmt.Errorf("connection ended: %w", err)
	}
	for cookie, k := range c.pending {
		delete(c.pending, cookie)
		k.done <- c.err
	}
}

// answer reads one reply.
func (c *Client) answer() error {
	var p [16]byte
	if _, err := io.ReadFull(c.in, p[:]); err != nil {
		return err
	}
	cookie := binary.BigEndian.Uint64(p[8:])
	c.mu.Lock()
	k := c.pending[cookie]
	c.mu.Unlock()
	if k == nil {
		return fmt.Errorf("answer with the unknown cookie %d", cookie)
	}
	end := true
	switch magic := binary.BigEndian.Uint32(p[:]); magic {
	case 0x67446698:
		k.errno = syscall.Errno(binary.BigEndian.Uint32(p[4:]))
		if k.errno == 0 && k.data != nil {
			if _, err := io.ReadFull(c.in, k.data); err != nil {
				return err
			}
		}
	case 0x668e33ef:
		end = p[5]&1 != 0
		if err := c.chunk(k, binary.BigEndian.Uint16(p[6:])); err != nil {
			return err
		}
	default:
		return fmt.Errorf("answer with the magic number %#x", magic)
	}
	if end {
		c.mu.Lock()
		delete(c.pending, cookie)
		c.mu.Unlock()
		k.done <- nil
	}
	return nil
}

// chunk reads the rest of a structured reply.
func (c *Client) chunk(k *call, kind uint16) error {
	var p [12]byte
	if _, err := io.ReadFull(c.in, p[:4]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(p[:])
	if kind == 1 { // data
		if _, err := io.ReadFull(c.in, p[:8]); err != nil {
			return err
		}
		if int(n)-8 != len(k.data) {
			return fmt.Errorf("%d bytes of data for a read of %d", n-8, len(k.data))
		}
		_, err := io.ReadFull(c.in, k.data)
		return err
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(c.in, data); err != nil {
		return err
	}
	switch kind {
	case 0: // none
	case 5: // block status
		for p := data[4:]; len(p) >= 8; p = p[8:] {
			k.extents = append(k.extents, Extent{binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])})
		}
	case 1<<15 + 1:
		k.errno = syscall.Errno(binary.BigEndian.Uint32(data))
	default:
		return fmt.Errorf("chunk of kind %d", kind)
	}
	return nil
}
