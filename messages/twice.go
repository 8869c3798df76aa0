package messages

import (
	"bytes"
	"encoding/json"
)

// KeyTwice returns a key that stands twice in the same object of the JSON value. One of the two would be dropped without a word, and
// programs differ in which. What is no JSON has none.
func KeyTwice(data []byte) (key string, twice bool) {
	type level struct {
		keys  map[string]bool // nil: an array
		value bool            // a key came, its value has not ended yet
	}
	levels := []level{{}}
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		token, err := dec.Token()
		if err != nil {
			return "", false
		}
		top := &levels[len(levels)-1]
		switch t := token.(type) {
		case string:
			if top.keys == nil || top.value {
				break // a value
			}
			if top.keys[t] {
				return t, true
			}
			top.keys[t], top.value = true, true
			continue
		case json.Delim:
			switch t {
			case '{':
				levels = append(levels, level{keys: map[string]bool{}})
				continue
			case '[':
				levels = append(levels, level{})
				continue
			}
			levels = levels[:len(levels)-1]
		}
		levels[len(levels)-1].value = false
	}
}
