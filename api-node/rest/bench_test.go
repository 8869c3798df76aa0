package rest

import (
	"io"
	"net/http"
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// thousand makes a thousand volumes; they stay in "creating".
func thousand(b *testing.B) (*stack, string) {
	b.Helper()
	s := newStack(b)
	var id string
	for range 1000 {
		acc := s.submit(&messages.CreateVolume{SizeGiB: 1, Name: "a volume with a name", Metadata: map[string]string{"purpose": "benchmark"}})
		id = acc.Resource
	}
	s.until("the last one is in the view", func() bool { _, ok := s.view.Volume(block.VolumeID(id)); return ok })
	return s, id
}

func benchmarkGet(b *testing.B, path func(s *stack, id string) string) {
	s, id := thousand(b)
	url := s.url + path(s, id)
	var client http.Client
	for b.Loop() {
		req, _ := http.NewRequest(http.MethodGet, url, nil)
		req.Header.Set("X-Auth-Token", "alice:p1")
		req.Header.Set("OpenStack-API-Version", "volume 3.71")
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK || n < 500 {
			b.Fatal(resp.Status, n, err)
		}
		resp.Body.Close()
	}
}

func BenchmarkListDetail1000(b *testing.B) {
	benchmarkGet(b, func(*stack, string) string { return "/v3/p1/volumes/detail" })
}

func BenchmarkGetByID(b *testing.B) {
	benchmarkGet(b, func(_ *stack, id string) string { return "/v3/p1/volumes/" + id })
}
