package messages

// Room answers whoever asks on RoomSubject, before it does what would harm a server on a full disk.
type Room struct {
	V int `msgpack:"v"`
	// Short says why there is none and what to do; empty: there is.
	Short string `msgpack:"short,omitempty"`
}
