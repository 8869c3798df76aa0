package driver

import "fmt"

// maxToken is the longest ID; longer ones do not fit the names of temporaries on every file system.
const maxToken = 64

// CheckToken refuses what is not [A-Za-z0-9_-]{1,64}: such an ID is safe in paths, keys and subjects.
func CheckToken(what, token string) error {
	if len(token) == 0 || len(token) > maxToken {
		return fmt.Errorf("%s %.80q: %w: want 1 to %d characters of A-Z a-z 0-9 _ -, it has %d", what, token, ErrInvalid, maxToken, len(token))
	}
	for i := range len(token) {
		if !tokenByte(token[i]) {
			return fmt.Errorf("%s %q: %w: want only A-Z a-z 0-9 _ -", what, token, ErrInvalid)
		}
	}
	return nil
}

func tokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// Check refuses a reference that cannot be addressed.
func (r Ref) Check() error {
	if r.Kind != KindVolume && r.Kind != KindSnapshot {
		return fmt.Errorf("kind %q: %w: want %s or %s", r.Kind, ErrInvalid, KindVolume, KindSnapshot)
	}
	return CheckToken(string(r.Kind), r.ID)
}

// Check refuses a volume with a bad ID or a size that is not positive.
func (v Volume) Check() error {
	if err := v.ID.Ref().Check(); err != nil {
		return err
	}
	return checkBytes(v.ID.Ref(), v.Bytes)
}

// Check refuses a snapshot with bad IDs or a size that is not positive.
func (s Snapshot) Check() error {
	if err := s.ID.Ref().Check(); err != nil {
		return err
	}
	if err := s.Volume.Ref().Check(); err != nil {
		return err
	}
	return checkBytes(s.ID.Ref(), s.Bytes)
}

// Check refuses a call without a proper operation.
func (c Call) Check() error { return CheckToken("operation", c.Operation) }

func checkBytes(ref Ref, n int64) error {
	if n <= 0 {
		return fmt.Errorf("%s: size %d bytes: %w: want at least 1", ref, n, ErrInvalid)
	}
	return nil
}
