package admit

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// What operators say is kept in the record of the operation, in texts of at most 1,024 bytes each: who, why, and a few words of ours.
const (
	// MaxReason is the length of the longest reason, in bytes.
	MaxReason = 750
	// maxWho is how much of a user's name stands before a reason, in bytes. A name may have as many characters, of up to four bytes each.
	maxWho = messages.MaxText
)

// checkReason refuses a reason that is missing where one must be given, that of what, and one that is too long.
func checkReason(reason, what string) error {
	refuse := func(format string, args ...any) error {
		return &messages.Error{Code: messages.CodeInvalid, Field: "reason", Message: "Invalid input for field/attribute reason: " + fmt.Sprintf(format, args...)}
	}
	switch {
	case reason == "" && what != "":
		return refuse("say why %s", what)
	case len(reason) > MaxReason:
		return refuse("it has %d bytes, at most %d are allowed", len(reason), MaxReason)
	}
	return nil
}

// who says who asked for something, and why, for the record.
func who(c Caller, reason string) string {
	user := c.User
	if len(user) > maxWho {
		end := maxWho - len("…")
		for end > 0 && !utf8.RuneStart(user[end]) {
			end--
		}
		user = user[:end] + "…"
	}
	if reason == "" {
		return user
	}
	return user + ": " + reason
}

// again tells the log who goes on with giving up an operation that is void already: its record names the one who made it so.
func (a *Admitter) again(ctx context.Context, c Caller, id block.OperationID, verb, reason string) {
	a.log.WarnContext(ctx, "void operation "+verb+" again", "operation", id, "reason", reason, "user", c.User)
}
