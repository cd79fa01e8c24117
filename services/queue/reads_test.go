package queue

import (
	"encoding/json"
	"strings"
	"testing"

	"taskcluster/internal/slugid"
)

// Large definitions make short pages, which together are the whole list.
func TestPagesOfLargeTasks(t *testing.T) {
	d := deploy(t)
	group := slugid.New().String()
	large := with{"taskGroupId": group, "extra": with{"text": strings.Repeat("x", maxPageBytes/3)}}
	var ids []string
	for range 4 {
		ids = append(ids, d.create(large))
	}
	for _, list := range []struct {
		verb, path string
		body       any
	}{
		{"GET", "/task-group/" + group + "/list", nil},
		{"GET", "/task-queues/prov%2Ftype/pending", nil},
		{"POST", "/tasks", with{"taskIds": ids}},
	} {
		var got, pages []string
		for token := ""; len(pages) == 0 || token != ""; {
			var page struct {
				Tasks []struct {
					TaskID string
					Status struct{ TaskID string }
				}
				ContinuationToken string
			}
			if err := json.Unmarshal([]byte(d.call(root, list.verb, list.path+token, list.body).want(200).body), &page); err != nil {
				t.Fatal(err)
			}
			for _, each := range page.Tasks {
				got = append(got, each.TaskID+each.Status.TaskID)
			}
			pages = append(pages, strings.Join(got, " "))
			if token = page.ContinuationToken; token != "" {
				token = "?continuationToken=" + token
			}
		}
		// Three thirds and their names are more than a page holds.
		if len(pages) != 2 || pages[0] != strings.Join(ids[:3], " ") || pages[1] != strings.Join(ids, " ") {
			t.Errorf("%s: want %v, have %v", list.path, ids, pages)
		}
	}
}
