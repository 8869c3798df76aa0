package messages

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/scoria-storage/scoria/messages/block"
)

// MaxText is how many characters a text of a user may have, as in Cinder.
const MaxText = 255

// Further bounds of what users may say.
const (
	maxMetadata  = 128
	maxConnector = 16 << 10
)

func checkText(field, s string) error {
	if n := utf8.RuneCountInString(s); n > MaxText {
		return fieldError(field, "%q has %d characters, at most %d are allowed", clip(s), n, MaxText)
	}
	if !utf8.ValidString(s) {
		return fieldError(field, "it is not valid UTF-8")
	}
	return nil
}

// CheckPrintable refuses what must not stand in a record that people read: more than 255 characters, bytes that are not UTF-8, and
// control characters. The error is an *Error that names the field.
func CheckPrintable(field, s string) error {
	if err := checkText(field, s); err != nil {
		return err
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }); i >= 0 {
		return fieldError(field, "%q holds a character that cannot be printed", clip(s))
	}
	return nil
}

func checkMetadata(m map[string]string) error {
	if len(m) > maxMetadata {
		return fieldError("metadata", "it has %d entries, at most %d are allowed", len(m), maxMetadata)
	}
	for k, v := range m {
		if k == "" {
			return fieldError("metadata", "an entry has no name")
		}
		if err := checkText("metadata", k); err != nil {
			return err
		}
		if err := checkText("metadata", v); err != nil {
			return err
		}
	}
	return nil
}

// checkSize has the words of Cinder's schema, as package rest has them for all numbers.
func checkSize(field string, size block.GiB) error {
	switch {
	case size < 1:
		return sizeError(field, size, "less than the minimum of 1")
	case size > block.MaxSize:
		return sizeError(field, size, fmt.Sprintf("greater than the maximum of %d", block.MaxSize))
	}
	return nil
}

func sizeError(field string, size block.GiB, why string) error {
	return &Error{Code: CodeInvalid, Field: field, Message: fmt.Sprintf("Invalid input for field/attribute %s. Value: %d. %d is %s", field, size, size, why)}
}

func checkID(field, id string) error {
	if !block.IsUUID(id) {
		return fieldError(field, "%q is not a UUID", clip(id))
	}
	return nil
}

func optionalID(field, id string) error {
	if id == "" {
		return nil
	}
	return checkID(field, id)
}

func optionalToken(field, s string) error {
	if s == "" {
		return nil
	}
	if err := block.CheckToken(s); err != nil {
		return fieldError(field, "%v", err)
	}
	return nil
}

// first returns the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
