package livelog

import (
	"context"
	"os"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/worker/task"
	"taskcluster/worker/upload"
)

const (
	contentType = "text/plain; charset=utf-8"
	// extra is how much longer than the longest run the reference to the live log lasts.
	extra = 15 * time.Minute
)

// Settings are which logs a run has, and under which names.
type Settings struct {
	Live, Backing         bool
	LiveName, BackingName string
}

// Default is what a run gets whose payload cannot be read.
var Default = Settings{Live: true, Backing: true, LiveName: "public/logs/live.log", BackingName: "public/logs/live_backing.log"}

// Of reads a run's payload.
func Of(run *task.Run) Settings {
	p := run.Payload
	return Settings{p.LiveLog, p.BackingLog, p.LiveName, p.BackingName}
}

// Names are the artifact names that the logs use.
func (s Settings) Names() (names []string) {
	if s.Live {
		names = append(names, s.LiveName)
	}
	if s.Backing {
		names = append(names, s.BackingName)
	}
	return names
}

// Start offers the log to readers, if the run wants that. The returned
// function ends it. An error is that of creating the artifact.
func Start(ctx context.Context, run *task.Run, server *Server, s Settings) (stop func(), err error) {
	if !s.Live {
		return func() {}, nil
	}
	url, stop := server.Add(run.Log)
	expires := run.Clock.Now().Std().Add(run.Payload.MaxRunTime + extra)
	if expires.After(run.Definition.Expires.Time) {
		expires = run.Definition.Expires.Time
	}
	_, err = run.CreateArtifact(ctx, s.LiveName, &queue.PostArtifactRequest{
		StorageType: "reference", URL: url, ContentType: contentType, Expires: client.At(expires),
	})
	if err != nil {
		stop()
		return func() {}, upload.Refused(ctx, s.LiveName, err)
	}
	return stop, nil
}

// Keep ends the log, uploads it and makes the live log a link to it, as far as
// the run wants that. Nothing can be logged afterwards.
func Keep(ctx context.Context, run *task.Run, u *upload.Uploader, s Settings) error {
	expires := run.Definition.Expires
	if s.Backing {
		run.Log.Infof("Uploading artifact %s from the log with content encoding \"gzip\", mime type %q and expiry %s", s.BackingName, contentType, expires)
		if s.Live {
			run.Log.Infof("Uploading link artifact %s to artifact %s with expiry %s", s.LiveName, s.BackingName, expires)
		}
	}
	if err := run.Log.Close(); err != nil {
		return task.Fail(task.ResourceUnavailable, err)
	}
	if !s.Backing {
		return nil
	}
	err := u.Upload(ctx, run, upload.File{
		Name: s.BackingName, ContentType: contentType, Gzip: true, Expires: expires,
		Open: func() (*os.File, error) { return os.Open(run.LogPath) },
	})
	if err != nil || !s.Live {
		return err
	}
	_, err = run.CreateArtifact(ctx, s.LiveName, &queue.PostArtifactRequest{
		StorageType: "link", Artifact: s.BackingName, ContentType: contentType, Expires: expires,
	})
	if err != nil {
		return upload.Refused(ctx, s.LiveName, err)
	}
	return nil
}
