package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// request is the header of one request, 28 bytes on the wire.
type request struct {
	cookie  uint64
	offset  uint64
	length  uint32
	command command
	flags   uint16
}

var errMagic = errors.New("the client sent something that is no request")

// parseRequest decodes a header; p has requestBytes bytes. Only the magic number is checked.
func parseRequest(p []byte) (request, error) {
	if magic := binary.BigEndian.Uint32(p); magic != magicRequest {
		return request{}, fmt.Errorf("%w (magic number %#x)", errMagic, magic)
	}
	return request{
		flags:   binary.BigEndian.Uint16(p[4:]),
		command: command(binary.BigEndian.Uint16(p[6:])),
		cookie:  binary.BigEndian.Uint64(p[8:]),
		offset:  binary.BigEndian.Uint64(p[16:]),
		length:  binary.BigEndian.Uint32(p[24:]),
	}, nil
}

// Errors of the protocol have numbers of their own, equal to those of Linux.
const (
	ePerm     = syscall.EPERM
	eIO       = syscall.EIO
	eNoMem    = syscall.ENOMEM
	eInval    = syscall.EINVAL
	eNoSpace  = syscall.ENOSPC
	eOverflow = syscall.EOVERFLOW
	eNotSup   = syscall.ENOTSUP
	eShutdown = syscall.ESHUTDOWN
)

// session is what the handshake has settled about a connection.
type session struct {
	size       uint64 // as the client was told; it stays so when the volume grows
	readOnly   bool
	structured bool
	allocation bool // base:allocation was selected for this export
}

// legalFlags are those that the protocol allows for a command, FUA aside: it is legal for all.
func (s *session) legalFlags(c command) uint16 {
	switch c {
	case cmdRead:
		if s.structured {
			return cmdFlagDF
		}
	case cmdWriteZeroes:
		return cmdFlagNoHole | cmdFlagFastZero
	case cmdBlockStatus:
		return cmdFlagReqOne
	case cmdWrite, cmdDisc, cmdFlush, cmdTrim, cmdCache:
	}
	return 0
}

// check says whether the request is legal in this session: 0 or the error to answer.
func (s *session) check(r request) syscall.Errno {
	switch r.command {
	case cmdWrite, cmdTrim, cmdWriteZeroes:
		if s.readOnly {
			return ePerm
		}
	case cmdRead, cmdFlush, cmdCache:
	case cmdBlockStatus:
		if !s.allocation || r.length == 0 {
			return eInval
		}
	case cmdDisc:
		return 0
	default:
		return eInval
	}
	if r.flags&^(s.legalFlags(r.command)|cmdFlagFUA) != 0 {
		return eInval
	}
	if r.command == cmdFlush {
		return 0 // offset and length mean nothing
	}
	if (r.command == cmdRead || r.command == cmdWrite) && r.length > MaxRequest {
		return eInval
	}
	if r.offset > s.size || uint64(r.length) > s.size-r.offset {
		if r.command == cmdWrite || r.command == cmdWriteZeroes {
			return eNoSpace
		}
		return eInval
	}
	return 0
}

// wireNumbers maps the errors of Linux to those that the protocol has; others are eIO.
var wireNumbers = map[syscall.Errno]syscall.Errno{
	ePerm: ePerm, syscall.EROFS: ePerm, syscall.EACCES: ePerm,
	eNoSpace: eNoSpace, syscall.EDQUOT: eNoSpace, syscall.EFBIG: eNoSpace,
	eNoMem: eNoMem, eInval: eInval, eOverflow: eOverflow, eNotSup: eNotSup, eShutdown: eShutdown,
}

// wireError is the protocol's number for an error of the device.
func wireError(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var errno syscall.Errno
	switch {
	case errors.Is(err, errCut):
		return eShutdown
	case errors.As(err, &errno):
		if known, ok := wireNumbers[errno]; ok {
			return known
		}
	case errors.Is(err, errors.ErrUnsupported):
		return eNotSup
	case errors.Is(err, fs.ErrPermission):
		return ePerm
	case errors.Is(err, context.Canceled):
		return eShutdown
	}
	return eIO
}
