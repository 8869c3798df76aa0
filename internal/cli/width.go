package cli

import (
	"strings"
	"unicode"
)

// columnGap stands between the columns of a table.
const columnGap = "  "

// align puts the cells of each row under those of the first: tabs would count characters, of which some take two columns and some none.
func align(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-width(cell)) + columnGap)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// width is how many columns of a terminal the text takes, as most terminals show it.
func width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// wide are the characters that take two columns beside those of East Asian scripts: punctuation of theirs, full-width forms, and pictures.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{{0x2e80, 0x303e, 1}, {0x3041, 0x33ff, 1}, {0xfe30, 0xfe6f, 1}, {0xff01, 0xff60, 1}, {0xffe0, 0xffe6, 1}},
	R32: []unicode.Range32{{0x1f300, 0x1f64f, 1}, {0x1f680, 0x1f6ff, 1}, {0x1f900, 0x1f9ff, 1}, {0x1fa70, 0x1faff, 1}},
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.In(r, wide, unicode.Han, unicode.Hangul):
		return 2
	}
	return 1
}

// maxName is how many columns of a name a list shows; all of it stands where the thing is shown alone, and in JSON.
const maxName = 40

// shortName is a name as a list shows it.
func shortName(name string) string {
	name = plain(orDash(name))
	if width(name) <= maxName {
		return name
	}
	n := 0
	for i, r := range name {
		if n += runeWidth(r); n > maxName-1 {
			return name[:i] + "…"
		}
	}
	return name
}
