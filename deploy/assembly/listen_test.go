package assembly

import (
	"errors"
	"strings"
	"testing"
)

func TestTwoServersOfOneProcessDoNotListenAtOneAddress(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ first, second, refused string }{
		"the same":               {"127.0.0.1:8776", "127.0.0.1:8776", "second"},
		"everywhere and one":     {":8776", "127.0.0.1:8776", "second"},
		"one and everywhere":     {"127.0.0.1:8776", "0.0.0.0:8776", "second"},
		"everywhere, IPv6":       {"[::]:8776", "[::1]:8776", "second"},
		"a name and its address": {"localhost:8776", "127.0.0.1:8776", "second"},
		"two names of a port":    {"localhost:8776", "localhost:8776", "second"},
		"a name and another":     {"localhost:8776", "127.0.0.2:8776", ""},
		"no name of a machine":   {"nowhere.invalid:8776", "127.0.0.1:8776", ""},
		"other ports":            {"127.0.0.1:8776", "127.0.0.1:8777", ""},
		"other addresses":        {"127.0.0.1:8776", "127.0.0.2:8776", ""},
		"free ports":             {"127.0.0.1:0", "127.0.0.1:0", ""},
		"one that is nowhere":    {"", "127.0.0.1:8776", ""},
		"both are nowhere":       {"", "", ""},
		"the first is no port":   {"127.0.0.1:x", "127.0.0.1:x", "first"},
	} {
		err := checkListens(listen{"first", c.first}, listen{"second", c.second})
		if c.refused == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		setting, ok := errors.AsType[*SettingError](err)
		if !ok || setting.Name != c.refused || c.refused == "second" && !strings.Contains(err.Error(), "setting first") {
			t.Errorf("%s: %v, want a word of the settings", name, err)
		}
	}
}
