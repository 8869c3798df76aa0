package messages_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logCalls are the methods of a logger, with the number of arguments before the attributes.
var logCalls = map[string]int{
	"With": 0, "Debug": 1, "Info": 1, "Warn": 1, "Error": 1,
	"DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "Log": 3,
}

// Every attribute of every log line has a key of the list in the package's documentation, and each of the list is used.
func TestLogKeysAreThoseOfTheList(t *testing.T) {
	t.Parallel()
	known, used := logKeys(t), map[string]bool{}
	files := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, lit := range keysOf(n) {
				key, _ := strconv.Unquote(lit.Value)
				if used[key] = true; !slices.Contains(known, key) {
					t.Errorf("%s: the log key %q is not in the list of package messages", files.Position(lit.Pos()), key)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range known {
		if !used[key] {
			t.Errorf("the log key %q of the list is used nowhere", key)
		}
	}
}

// logKeys reads the list in the documentation of the package.
func logKeys(t *testing.T) (keys []string) {
	t.Helper()
	source, err := os.ReadFile("messages.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(source), "// Log attributes")
	list, _, end := strings.Cut(list, "\n//\n")
	if !ok || !end {
		t.Fatal("the list is not in the documentation of the package")
	}
	for _, part := range strings.Split(strings.ReplaceAll(list, "\n//", ""), ":")[1:] {
		names, _, _ := strings.Cut(part, ".")
		keys = append(keys, regexp.MustCompile(`[a-z_]+`).FindAllString(names, -1)...)
	}
	return keys
}

// keysOf returns the keys if the node is a call of a logger.
func keysOf(n ast.Node) (keys []*ast.BasicLit) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !strings.HasSuffix(strings.ToLower(strings.TrimSuffix(types.ExprString(method.X), "()")), "log") {
		return nil
	}
	skip, ok := logCalls[method.Sel.Name]
	if !ok || len(call.Args) < skip {
		return nil
	}
	for i := skip; i < len(call.Args); i += 2 {
		if lit, ok := call.Args[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			keys = append(keys, lit)
		}
	}
	return keys
}
