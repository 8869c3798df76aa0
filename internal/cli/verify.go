package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func verifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify", Args: cobra.NoArgs,
		Short: "Prove that quotas, pools, locks, statuses and backends agree with the records; status 1 if they do not",
	}
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		var out struct {
			Clean       bool           `json:"clean"`
			Checked     map[string]int `json:"checked"`
			Differences []struct {
				Kind    string `json:"kind"`
				Subject string `json:"subject"`
				Text    string `json:"text"`
			} `json:"differences"`
		}
		if _, err := s.call(ctx, http.MethodGet, ownAPI("verify"), nil, &out); err != nil {
			return err
		}
		if s.asJSON {
			if err := s.json(out); err != nil {
				return err
			}
		} else if err := s.verdict(out.Clean, out.Checked); err != nil {
			return err
		}
		if out.Clean {
			return nil
		}
		if !s.asJSON {
			rows := make([][]string, 0, len(out.Differences))
			for _, d := range out.Differences {
				rows = append(rows, []string{d.Kind, d.Subject, d.Text})
			}
			if err := s.table([]string{"KIND", "SUBJECT", "DIFFERENCE"}, rows); err != nil {
				return err
			}
		}
		return errSilent
	})
}

func (s *session) verdict(clean bool, checked map[string]int) error {
	word := "differences found"
	if clean {
		word = "clean"
	}
	_, err := fmt.Fprintf(s.out, "%s: %d volumes, %d snapshots, %d attachments, %d quotas, %d pools, %d operations, %d locks, %d objects on backends checked\n", word,
		checked["volumes"], checked["snapshots"], checked["attachments"], checked["quotas"], checked["pools"], checked["operations"], checked["locks"], checked["backend_objects"])
	return err
}
