package cli

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"taskcluster/client/queue"
)

type taskArtifactsCommand struct {
	oneTask
	RunID    *int   `name:"run" placeholder:"N" help:"The run, counted from 0 (default: the latest)."`
	Download string `placeholder:"NAME" help:"Fetch the artifact with that name instead of listing."`
	Output   string `short:"o" placeholder:"FILE" help:"Where to put it; - is stdout (default: the last part of its name)."`
	remote
}

func (*taskArtifactsCommand) Help() string {
	return examples(
		"taskcluster task artifacts fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster task artifacts fN1SbArXTPSVFNUvaOlinQ --download public/report.txt -o -")
}

// Run lists the artifacts of a run or fetches one.
func (c *taskArtifactsCommand) Run(s *session) error {
	if c.Output != "" && c.Download == "" {
		return usageError("--output needs --download NAME")
	}
	q, _, err := c.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	runID := latestRun
	if c.RunID != nil {
		if runID = *c.RunID; runID < 0 {
			return usageError("runs are counted from 0")
		}
	}
	if c.Download != "" {
		return c.download(s, q, runID)
	}
	var pages iter.Seq2[*queue.ListArtifactsResponse, error]
	if runID == latestRun {
		pages = q.ListLatestArtifactsPages(s.ctx, string(c.TaskID), queue.ListLatestArtifactsQuery{})
	} else {
		pages = q.ListArtifactsPages(s.ctx, string(c.TaskID), strconv.Itoa(runID), queue.ListArtifactsQuery{})
	}
	all := queue.ListArtifactsResponse{Artifacts: []queue.ArtifactResponse{}}
	for page, err := range pages {
		if err != nil {
			return err
		}
		if page.Artifacts == nil || slices.ContainsFunc(page.Artifacts, func(a queue.ArtifactResponse) bool { return a.Name == "" }) {
			return errUnexpected
		}
		all.Artifacts = append(all.Artifacts, page.Artifacts...)
	}
	if c.JSON {
		return s.printJSON(all)
	}
	if len(all.Artifacts) == 0 {
		fmt.Fprintln(s.stderr, "The run has no artifacts.")
		return nil
	}
	rows := [][]string{{"NAME", "STORAGE", "BYTES", "TYPE", "EXPIRES"}}
	for _, a := range all.Artifacts {
		size := "-"
		if a.ContentLength != nil {
			size = strconv.Itoa(*a.ContentLength)
		}
		rows = append(rows, []string{a.Name, a.StorageType, size, a.ContentType, a.Expires.String()})
	}
	return table(s.stdout, rows)
}

// download fetches an artifact into a file, which appears when it is complete.
func (c *taskArtifactsCommand) download(s *session, q *queue.Client, runID int) error {
	target := c.Output
	if target == "" {
		if target = path.Base(c.Download); target == "/" || target == "." || target == ".." {
			return usageError("the artifact's name gives no file name: add -o FILE")
		}
	}
	url, err := locate(s.ctx, q, string(c.TaskID), runID, c.Download)
	if err != nil {
		return err
	}
	body, err := open(s.ctx, newArtifactClient(), url)
	if err != nil {
		return err
	}
	defer body.Close()
	if target == "-" {
		if c.JSON {
			return usageError("-o - and --json both write to stdout: choose one")
		}
		_, err := io.Copy(s.stdout, body)
		return err
	}
	n, err := save(target, body)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(map[string]any{"name": c.Download, "file": target, "bytes": n})
	}
	fmt.Fprintf(s.stderr, "%s: %d bytes\n", target, n)
	return nil
}

// save writes a file at once: a broken transfer leaves what was there.
func save(target string, r io.Reader) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(target), ".taskcluster-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	n, err = io.Copy(f, r)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return n, os.Rename(f.Name(), target)
}
