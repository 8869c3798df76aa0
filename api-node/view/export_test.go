package view

// WithEnded sets how many ended operations are kept in memory.
func WithEnded(n int) Option { return func(v *View) { v.ended = n } }
