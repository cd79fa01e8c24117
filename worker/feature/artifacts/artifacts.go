// Package artifacts keeps the files and directories that a task's payload
// names. What is not there, or is not what it should be, becomes an artifact of
// type error, and the task has failed unless the payload calls it optional.
package artifacts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/worker/payload"
	"taskcluster/worker/task"
	"taskcluster/worker/upload"
)

const (
	parallel = 10          // uploads at a time
	slack    = time.Second // by which an artifact may expire before the task's deadline
	maxName  = 1024        // bytes of a name
	maxType  = 255         // bytes of a content type
)

// Check refuses artifacts that could not be created, before the task runs.
func Check(run *task.Run) error {
	var problems []string
	for i, a := range run.Payload.Artifacts {
		at := fmt.Sprintf("artifacts[%d] (%s)", i, a.Name)
		if err := checkName(a.Name); err != nil {
			problems = append(problems, at+": "+err.Error())
		}
		if len(a.ContentType) > maxType || !printable(a.ContentType) {
			problems = append(problems, fmt.Sprintf("%s: contentType %.300q cannot be used", at, a.ContentType))
		}
		if a.Expires.IsZero() {
			continue
		}
		expires := a.Expires.Std()
		if expires.Add(slack).Before(run.Definition.Deadline.Time) {
			problems = append(problems, fmt.Sprintf("%s expires %s, before the task's deadline %s", at, a.Expires, run.Definition.Deadline))
		}
		if expires.After(run.Definition.Expires.Time) {
			problems = append(problems, fmt.Sprintf("%s expires %s, after the task does (%s)", at, a.Expires, run.Definition.Expires))
		}
	}
	if len(problems) > 0 {
		return task.Fail(task.MalformedPayload, &payload.Error{Problems: problems})
	}
	return nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !printable(name) {
		return fmt.Errorf("%.1100q cannot be the name of an artifact: it must be 1 to %d characters of printable ASCII", name, maxName)
	}
	return nil
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0
}

// item is one artifact to create: a file, or an error in its place.
type item struct {
	name     string
	path     string // within the task's directory
	of       *payload.Artifact
	reason   string // of an error artifact
	message  string
	unnamed  bool // the file's name cannot be an artifact's
	conflict bool // the name is taken
}

// Upload keeps all artifacts of a run. Reserved are names that others use. All
// are tried; the error is the first in the payload's order.
func Upload(ctx context.Context, run *task.Run, u *upload.Uploader, reserved ...string) error {
	if len(run.Payload.Artifacts) == 0 {
		return nil
	}
	root, err := os.OpenRoot(run.Dir)
	if err != nil {
		err = task.Fail(task.Failed, fmt.Errorf("the task's directory is gone: %w", err))
		run.Log.Errorf("%v", err)
		return err
	}
	defer root.Close()
	taken := map[string]bool{}
	for _, name := range reserved {
		taken[name] = true
	}
	var items []item
	for i := range run.Payload.Artifacts {
		for _, it := range find(root, run.Dir, &run.Payload.Artifacts[i]) {
			it.conflict = taken[it.name]
			taken[it.name] = true
			items = append(items, it)
		}
	}
	failures := make([]error, len(items))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, it := range items {
		g.Go(func() error {
			failures[i] = it.create(ctx, run, root, u)
			return nil
		})
	}
	g.Wait()
	var first error
	for _, err := range failures {
		if err != nil {
			run.Log.Errorf("%v", err)
			first = cmp.Or(first, err)
		}
	}
	return first
}

// find lists what an artifact of the payload consists of.
func find(root *os.Root, dir string, a *payload.Artifact) []item {
	problem := func(reason, format string, args ...any) []item {
		return []item{{name: a.Name, path: a.Path, of: a, reason: reason, message: fmt.Sprintf(format, args...)}}
	}
	at, ok := inside(dir, a.Path)
	if !ok {
		return problem("file-not-readable-on-worker", "Path %q leads out of the task's directory", a.Path)
	}
	st, err := root.Stat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return problem("file-missing-on-worker", "There is no %s %q", a.Type, a.Path)
	case err != nil:
		return problem("file-not-readable-on-worker", "The %s %q cannot be read: %v", a.Type, a.Path, cause(err))
	case a.Type == "file" && !st.Mode().IsRegular():
		return problem("invalid-resource-on-worker", "%q is not a file but %s", a.Path, kind(st.Mode()))
	case a.Type == "directory" && !st.IsDir():
		return problem("invalid-resource-on-worker", "%q is not a directory but %s", a.Path, kind(st.Mode()))
	case a.Type == "file":
		return []item{{name: a.Name, path: at, of: a}}
	}
	return walk(root, at, a)
}

// walk lists the files below a directory. Links to files within the task's
// directory count as files; links to directories are not followed.
func walk(root *os.Root, at string, a *payload.Artifact) (items []item) {
	base := strings.TrimRight(a.Name, "/")
	add := func(p, reason, format string, args ...any) {
		name := base
		if rel := strings.TrimPrefix(strings.TrimPrefix(p, at), "/"); at == "." && p != "." {
			name += "/" + p
		} else if rel != "" && p != at {
			name += "/" + rel
		}
		it := item{name: name, path: p, of: a, reason: reason, message: fmt.Sprintf(format, args...)}
		it.unnamed = checkName(it.name) != nil
		items = append(items, it)
	}
	fs.WalkDir(root.FS(), at, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			add(p, "file-not-readable-on-worker", "%q cannot be read: %v", p, cause(err))
			return nil // what else there is counts, too
		}
		if e.IsDir() {
			return nil
		}
		st, err := root.Stat(p)
		switch {
		case err != nil:
			add(p, "file-not-readable-on-worker", "%q cannot be read: %v", p, cause(err))
		case st.IsDir():
		case !st.Mode().IsRegular():
			add(p, "invalid-resource-on-worker", "%q is not a file but %s", p, kind(st.Mode()))
		default:
			add(p, "", "")
		}
		return nil
	})
	return items
}

// create creates one artifact.
func (it item) create(ctx context.Context, run *task.Run, root *os.Root, u *upload.Uploader) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch {
	case it.unnamed:
		return task.Fail(task.Failed, fmt.Errorf("file %q: %w", it.path, checkName(it.name)))
	case it.conflict:
		return task.Fail(task.MalformedPayload, fmt.Errorf("two artifacts have the name %q", it.name))
	}
	expires := run.Definition.Expires
	if !it.of.Expires.IsZero() {
		expires = client.At(it.of.Expires.Std())
	}
	if it.reason == "" {
		if f, err := root.Open(it.path); err == nil {
			f.Close()
		} else {
			it.reason, it.message = "file-not-readable-on-worker", fmt.Sprintf("The file %q cannot be read: %v", it.path, cause(err))
		}
	}
	if it.reason != "" {
		return it.fail(ctx, run, expires)
	}
	contentType := it.of.ContentType
	if contentType == "" {
		contentType = TypeOf(it.path)
	}
	encoding := it.of.ContentEncoding
	if encoding == "" {
		encoding = encodingOf(it.path)
	}
	run.Log.Infof("Uploading artifact %s from file %s with content encoding %q, mime type %q and expiry %s",
		it.name, it.path, encoding, contentType, expires)
	return u.Upload(ctx, run, upload.File{
		Name: it.name, ContentType: contentType, Gzip: encoding == "gzip", Expires: expires,
		Open: func() (*os.File, error) { return root.Open(it.path) },
	})
}

// fail creates an error artifact, or nothing for an optional artifact.
func (it item) fail(ctx context.Context, run *task.Run, expires client.Time) error {
	if it.of.Optional {
		run.Log.Infof("Optional artifact %s is left out: %s", it.name, it.message)
		return nil
	}
	run.Log.Errorf("Uploading error artifact %s with reason %q and expiry %s", it.name, it.reason, expires)
	_, err := run.CreateArtifact(ctx, it.name, &queue.PostArtifactRequest{
		StorageType: "error", Expires: expires, Reason: it.reason, Message: it.message[:min(len(it.message), 4096)],
	})
	if err != nil {
		return upload.Refused(ctx, it.name, err)
	}
	return task.Fail(task.Failed, fmt.Errorf("artifact %s: %s", it.name, it.message))
}

// inside makes a path relative to the task's directory, and tells whether it
// stays there as far as its words go. Links are os.Root's business.
func inside(dir, p string) (string, bool) {
	if filepath.IsAbs(p) {
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return "", false
		}
		p = rel
	}
	p = path.Clean(filepath.ToSlash(p))
	return p, filepath.IsLocal(p)
}

// cause strips the operation and path from an error of the file system.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m.IsRegular():
		return "a file"
	}
	return "something special (" + m.Type().String() + ")"
}
