package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// handshake is the first part of a connection: the client sends options until it has chosen an export.
type handshake struct {
	*conn
	out        []byte // the answer that is being built
	noZeroes   bool
	structured bool
	allocation string // the export for which base:allocation was selected
	selected   bool   // it was
	name       string // of the export chosen
}

// run returns the device that the client chose; nil without an error if it ended the connection in good order.
func (h *handshake) run() (Device, session, error) {
	h.out = binary.BigEndian.AppendUint64(h.out, magicServer)
	h.out = binary.BigEndian.AppendUint64(h.out, magicOption)
	h.out = binary.BigEndian.AppendUint16(h.out, flagFixedNewstyle|flagNoZeroes)
	if err := h.send(); err != nil {
		return nil, session{}, err
	}
	var p [16]byte
	if _, err := io.ReadFull(h.in, p[:4]); err != nil {
		return nil, session{}, err
	}
	flags := binary.BigEndian.Uint32(p[:])
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return nil, session{}, fmt.Errorf("unknown client flags %#x", flags)
	}
	h.noZeroes = flags&flagNoZeroes != 0
	fixed := flags&flagFixedNewstyle != 0
	for range maxOptions {
		if _, err := io.ReadFull(h.in, p[:]); err != nil {
			return nil, session{}, err
		}
		if magic := binary.BigEndian.Uint64(p[:]); magic != magicOption {
			return nil, session{}, fmt.Errorf("not an option (magic number %#x)", magic)
		}
		opt, length := option(binary.BigEndian.Uint32(p[8:])), binary.BigEndian.Uint32(p[12:])
		if !fixed && opt != optExportName {
			return nil, session{}, fmt.Errorf("option %d from a client without fixed newstyle", opt)
		}
		if length > maxOption {
			return nil, session{}, fmt.Errorf("option %d has %d bytes, more than %d", opt, length, maxOption)
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(h.in, data); err != nil {
			return nil, session{}, err
		}
		d, s, end, err := h.option(opt, data)
		if err != nil || end {
			return d, s, err
		}
		if err := h.send(); err != nil {
			return nil, session{}, err
		}
	}
	return nil, session{}, fmt.Errorf("more than %d options", maxOptions)
}

// option answers one option; end: the handshake is over, and what is to be sent was.
func (h *handshake) option(opt option, data []byte) (d Device, s session, end bool, err error) {
	switch opt {
	case optExportName:
		return h.exportName(string(data))
	case optAbort:
		h.reply(opt, repAck, nil)
		_ = h.send() // the client may have gone already
		return nil, s, true, nil
	case optList:
		h.list(data)
	case optInfo:
		d, _, err = h.info(opt, data)
		if d != nil {
			h.server.mu.Lock()
			h.server.leave(h.conn)
			h.server.mu.Unlock()
		}
	case optGo:
		if d, s, err = h.info(opt, data); d != nil {
			return d, s, true, h.send()
		}
	case optStructuredReply:
		if len(data) != 0 {
			h.reply(opt, repErrInvalid, "this option has no data")
			break
		}
		h.structured = true
		h.reply(opt, repAck, nil)
	case optListMetaContext, optSetMetaContext:
		h.metaContext(opt, data)
	case optStartTLS:
		h.reply(opt, repErrPolicy, "the socket is local: there is no TLS")
	default:
		h.reply(opt, repErrUnsup, "unknown option")
	}
	return nil, s, false, err
}

// exportName is the old way to choose an export; it cannot tell errors.
func (h *handshake) exportName(name string) (Device, session, bool, error) {
	e, d, err := h.server.enter(h.conn, name)
	if err != nil {
		return nil, session{}, true, fmt.Errorf("export %s: %w", name, err)
	}
	if e == nil {
		return nil, session{}, true, fmt.Errorf("no export %q", name)
	}
	h.name = name
	s := h.session(d, name)
	h.out = binary.BigEndian.AppendUint64(h.out, s.size)
	h.out = binary.BigEndian.AppendUint16(h.out, s.flags())
	if !h.noZeroes {
		h.out = append(h.out, make([]byte, 124)...)
	}
	return d, s, true, h.send()
}

// info answers INFO and GO; if it returns a device, the connection is a client of its export.
func (h *handshake) info(opt option, data []byte) (Device, session, error) {
	p := parser{data}
	name, ok := p.str()
	count, ok2 := p.u16()
	if !ok || !ok2 || len(p.rest) != 2*int(count) {
		h.reply(opt, repErrInvalid, "malformed option")
		return nil, session{}, nil
	}
	e, d, err := h.server.enter(h.conn, name)
	if e == nil {
		h.reply(opt, repErrUnknown, "no export of this name")
		return nil, session{}, nil
	}
	if err != nil {
		h.server.log.Warn("export cannot be opened", "export", name, "error", err)
		h.reply(opt, repErrPolicy, "the export cannot be opened: "+err.Error())
		return nil, session{}, nil
	}
	s := h.session(d, name)
	var b []byte
	b = binary.BigEndian.AppendUint16(b, infoExport)
	b = binary.BigEndian.AppendUint64(b, s.size)
	b = binary.BigEndian.AppendUint16(b, s.flags())
	h.reply(opt, repInfo, b)
	for range count {
		kind, _ := p.u16()
		b = binary.BigEndian.AppendUint16(b[:0], kind)
		switch kind {
		case infoName:
			b = append(b, name...)
		case infoDescription:
			b = append(b, e.Description...)
		case infoBlockSize:
			b = binary.BigEndian.AppendUint32(b, 1)
			b = binary.BigEndian.AppendUint32(b, preferredBlock)
			b = binary.BigEndian.AppendUint32(b, MaxRequest)
		default:
			continue
		}
		h.reply(opt, repInfo, b)
		if len(h.out) > 2*maxOption { // a client that asks for the same thing thousands of times
			return nil, session{}, errors.New("too many information requests")
		}
	}
	h.reply(opt, repAck, nil)
	h.name = name
	return d, s, nil
}

func (h *handshake) session(d Device, name string) session {
	return session{
		size:       uint64(d.Size()),
		readOnly:   d.ReadOnly(),
		structured: h.structured,
		allocation: h.structured && h.selected && h.allocation == name,
	}
}

// flags tells the client what it may do.
func (s *session) flags() uint16 {
	f := uint16(flagHasFlags | flagSendFlush | flagSendFUA | flagCanMultiConn | flagSendCache)
	if s.readOnly {
		f |= flagReadOnly
	} else {
		f |= flagSendTrim | flagSendWriteZero | flagSendFastZero
	}
	if s.structured {
		f |= flagSendDF
	}
	return f
}

func (h *handshake) list(data []byte) {
	if len(data) != 0 {
		h.reply(optList, repErrInvalid, "this option has no data")
		return
	}
	for _, e := range h.server.names() {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(e.Name)))
		b = append(b, e.Name...)
		b = append(b, e.Description...)
		h.reply(optList, repServer, b)
	}
	h.reply(optList, repAck, nil)
}

// metaContext lists or selects metadata contexts; there is one.
func (h *handshake) metaContext(opt option, data []byte) {
	set := opt == optSetMetaContext
	if set {
		h.selected = false
	}
	p := parser{data}
	name, ok := p.str()
	count, ok2 := p.u32()
	if !ok || !ok2 || !h.structured {
		h.reply(opt, repErrInvalid, "malformed option, or no structured replies")
		return
	}
	found := count == 0 && !set
	for range count {
		query, ok := p.str()
		if !ok {
			h.reply(opt, repErrInvalid, "malformed option")
			return
		}
		found = found || query == contextAllocation || query == "base:" && !set
	}
	if len(p.rest) != 0 {
		h.reply(opt, repErrInvalid, "malformed option")
		return
	}
	if !h.known(name) {
		h.reply(opt, repErrUnknown, "no export of this name")
		return
	}
	if found {
		id := uint32(0)
		if set {
			id = allocationID
			h.selected, h.allocation = true, strings.Clone(name)
		}
		h.reply(opt, repMetaContext, append(binary.BigEndian.AppendUint32(nil, id), contextAllocation...))
	}
	h.reply(opt, repAck, nil)
}

func (h *handshake) known(name string) bool {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	e := h.server.exports[name]
	return e != nil && !e.cut
}

// reply adds one answer to what is sent next; data is bytes or a sentence.
func (h *handshake) reply(opt option, kind optReply, data any) {
	h.out = binary.BigEndian.AppendUint64(h.out, magicOptReply)
	h.out = binary.BigEndian.AppendUint32(h.out, uint32(opt))
	h.out = binary.BigEndian.AppendUint32(h.out, uint32(kind))
	switch data := data.(type) {
	case []byte:
		h.out = binary.BigEndian.AppendUint32(h.out, uint32(len(data)))
		h.out = append(h.out, data...)
	case string:
		h.out = binary.BigEndian.AppendUint32(h.out, uint32(len(data)))
		h.out = append(h.out, data...)
	default:
		h.out = binary.BigEndian.AppendUint32(h.out, 0)
	}
}

func (h *handshake) send() error {
	_, err := h.nc.Write(h.out)
	h.out = h.out[:0]
	return err
}

// parser takes numbers and strings from the data of an option.
type parser struct{ rest []byte }

func (p *parser) u16() (uint16, bool) {
	if len(p.rest) < 2 {
		return 0, false
	}
	v := binary.BigEndian.Uint16(p.rest)
	p.rest = p.rest[2:]
	return v, true
}

func (p *parser) u32() (uint32, bool) {
	if len(p.rest) < 4 {
		return 0, false
	}
	v := binary.BigEndian.Uint32(p.rest)
	p.rest = p.rest[4:]
	return v, true
}

// str takes a string with its length before it.
func (p *parser) str() (string, bool) {
	n, ok := p.u32()
	if !ok || uint64(n) > uint64(len(p.rest)) {
		return "", false
	}
	v := string(p.rest[:n])
	p.rest = p.rest[n:]
	return v, true
}
