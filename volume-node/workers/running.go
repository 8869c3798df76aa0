package workers

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Running returns the workers whose processes have not ended, this one included, in the order of their names.
func (m *Member) Running() ([]string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("workers of the node: %w", err)
	}
	var running []string
	for _, e := range entries {
		free, err := m.ifFree(e.Name(), unix.LOCK_SH, func() error { return nil })
		if err != nil {
			return nil, err
		}
		if !free {
			running = append(running, e.Name())
		}
	}
	return running, nil
}
