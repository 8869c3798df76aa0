// Package nbd serves disks to hosts by the Network Block Device protocol: fixed newstyle handshake, simple and structured
// replies, the metadata context base:allocation.
//
// Nouns. A [Server] has exports, each under a name. An [Export] opens a [Device] when a client comes. A connection is one
// client's way to one export: first the handshake (options), then the transmission (requests, many at a time, answered in
// any order).
//
// Invariants:
//
//   - When Cut has returned nil, no request of any client of that export is being carried out, and none will be.
//   - A flush is answered after everything that was answered before on any connection of the export is on stable storage;
//     a request with FUA after what it wrote is.
//   - A client reaches bytes 0 to the size it was told, and changes nothing of a read-only export.
//   - What a client sends costs at most [MaxInFlight] requests and [maxBytes] of memory for each connection, and whatever it
//     sends ends at worst its own connection.
//
// What it does not do: TLS and authentication (the sockets are local, their permissions decide who may connect), and
// extended headers.
//
// The protocol is the document doc/proto.md of the project NetworkBlockDevice/nbd; names of constants follow it.
package nbd

import "context"

// Device is what an export gives its clients. Its methods are safe for concurrent use. Offsets and lengths are within Size
// as it was when the client came. Errors of type syscall.Errno reach the client as such, where the protocol has them.
type Device interface {
	Size() int64
	ReadOnly() bool
	// ReadAt fills p.
	ReadAt(p []byte, off int64) error
	// TryReadAt fills p if that takes no waiting; false: call ReadAt.
	TryReadAt(p []byte, off int64) bool
	WriteAt(ctx context.Context, p []byte, off int64) error
	Trim(ctx context.Context, off, n int64) error
	// WriteZeroes makes a range read as zeroes; keep: without freeing it; fast: fail with errors.ErrUnsupported rather than
	// take as long as writing zeroes would.
	WriteZeroes(ctx context.Context, off, n int64, keep, fast bool) error
	// Sync brings all that was written to stable storage.
	Sync() error
	// Extents yields the range piece by piece, in order, until all is told or yield says false; a hole reads as zeroes.
	Extents(off, n int64, yield func(bytes int64, hole bool) bool)
	Prefetch(off, n int64)
}

// Limits of one connection.
const (
	MaxRequest  = 32 << 20 // largest read or write, in bytes
	MaxInFlight = 256      // requests taken and not yet answered
	maxBytes    = 72 << 20 // buffers of those requests, in bytes
	maxWorkers  = 12       // changes, and as many others, that wait for the device at a moment; each may cost a thread
	maxOption   = 64 << 10 // data of one option in the handshake, in bytes
	maxOptions  = 1024     // options in one handshake
	maxExtents  = 1024     // descriptors in the answer to one block status request
)

// Numbers of the protocol.
const (
	magicServer     = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicOptReply   = 0x3e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef

	flagFixedNewstyle = 1 << 0 // in both directions
	flagNoZeroes      = 1 << 1

	flagHasFlags       = 1 << 0
	flagReadOnly       = 1 << 1
	flagSendFlush      = 1 << 2
	flagSendFUA        = 1 << 3
	flagSendTrim       = 1 << 5
	flagSendWriteZero  = 1 << 6
	flagSendDF         = 1 << 7
	flagCanMultiConn   = 1 << 8
	flagSendCache      = 1 << 10
	flagSendFastZero   = 1 << 11
	infoExport         = 0
	infoName           = 1
	infoDescription    = 2
	infoBlockSize      = 3
	preferredBlock     = 4096
	contextAllocation  = "base:allocation"
	allocationID       = 1 // our ID of that context
	stateHole          = 1 << 0
	stateZero          = 1 << 1
	replyFlagDone      = 1 << 0
	replyNone          = 0
	replyOffsetData    = 1
	replyBlockStatus   = 5
	replyError         = 1<<15 + 1
	requestBytes       = 28
	simpleBytes        = 16
	structuredBytes    = 20
	offsetBytes        = 8
	descriptorBytes    = 8
	largestReplyHeader = structuredBytes + offsetBytes
)

// option is a number of the handshake, from the client.
type option uint32

const (
	optExportName      option = 1
	optAbort           option = 2
	optList            option = 3
	optStartTLS        option = 5
	optInfo            option = 6
	optGo              option = 7
	optStructuredReply option = 8
	optListMetaContext option = 9
	optSetMetaContext  option = 10
)

// optReply is the kind of an answer in the handshake.
type optReply uint32

const (
	repAck         optReply = 1
	repServer      optReply = 2
	repInfo        optReply = 3
	repMetaContext optReply = 4
	repErrUnsup    optReply = 1<<31 + 1
	repErrPolicy   optReply = 1<<31 + 2
	repErrInvalid  optReply = 1<<31 + 3
	repErrUnknown  optReply = 1<<31 + 6
	repErrShutdown optReply = 1<<31 + 7
	repErrTooBig   optReply = 1<<31 + 9
)

// command is the kind of a request in the transmission.
type command uint16

const (
	cmdRead        command = 0
	cmdWrite       command = 1
	cmdDisc        command = 2
	cmdFlush       command = 3
	cmdTrim        command = 4
	cmdCache       command = 5
	cmdWriteZeroes command = 6
	cmdBlockStatus command = 7
)

// changes says whether the command changes the device.
func (c command) changes() bool { return c == cmdWrite || c == cmdTrim || c == cmdWriteZeroes }

// Flags of a command.
const (
	cmdFlagFUA      = 1 << 0
	cmdFlagNoHole   = 1 << 1
	cmdFlagDF       = 1 << 2
	cmdFlagReqOne   = 1 << 3
	cmdFlagFastZero = 1 << 4
)
