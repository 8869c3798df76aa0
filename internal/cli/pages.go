package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

// limitFlag gives a list its --limit; 0 stands for all.
func limitFlag(cmd *cobra.Command) *int {
	limit := new(int)
	cmd.Flags().Var(newCount(limit, 0, 1, 1_000_000_000, "want 1 or more rows"), "limit", "only so many, from the top; default: all")
	return limit
}

// listAll reads a list to its end, page after page, or to the limit if that is not 0. name is the list's key in the answer, id tells the ID of a row, which
// marks where the next page begins.
func listAll[T any](ctx context.Context, s *session, path string, query url.Values, name string, limit int, id func(T) string) ([]T, error) {
	all := []T{}
	for {
		query.Del("marker")
		if len(all) > 0 {
			query.Set("marker", id(all[len(all)-1]))
		}
		if limit > 0 {
			query.Set("limit", strconv.Itoa(limit-len(all))) // an API node gives a page at most
		}
		var answer map[string]json.RawMessage
		_, err := s.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &answer)
		if hasStatus(err, http.StatusNotFound) && len(all) > 0 {
			all = all[:len(all)-1] // it has gone since its page was read: the row before marks the place
			continue
		}
		if err != nil {
			return nil, err
		}
		var page []T
		if err := json.Unmarshal(answer[name], &page); err != nil {
			return nil, fmt.Errorf("GET %s: the answer is not the list expected: %w", path, err)
		}
		all = append(all, page...)
		_, links := answer[name+"_links"]
		_, next := answer["next"]
		more := links || next || name == "attachments" // whose lists have no links
		if !more || len(page) == 0 || len(all) == limit {
			return all, nil
		}
	}
}
