package records

import (
	"encoding/json"
	"fmt"
)

func sprint(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(data)
}
