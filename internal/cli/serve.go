package cli

import (
	"context"
	"fmt"
	"time"

	"taskcluster/internal/app"
	"taskcluster/internal/obs"
)

type serveCommand struct {
	settingFlags
}

func (*serveCommand) Help() string {
	return `Each flag can also be set in the environment (TASKCLUSTER_DATA_DIR for
--data-dir) or in the settings file; "taskcluster config explain" shows what
holds. The first SIGINT or SIGTERM stops in order, a second one at once.

` + examples(
		"taskcluster serve --worker",
		"taskcluster serve --listen 0.0.0.0:80 --root-url https://ci.example.com --data-dir /srv/tc",
		"taskcluster serve --config taskcluster.yml")
}

// stopTimeout bounds an orderly stop: tasks of the local worker are resolved
// and requests under way answered.
const stopTimeout = time.Minute

// Run serves until it is interrupted.
func (c *serveCommand) Run(s *session) error {
	settings, _, err := c.load(s)
	if err != nil {
		return err
	}
	log, err := obs.NewLogger(s.stderr, *settings.LogFormat, *settings.LogLevel)
	if err != nil {
		return err
	}
	a, err := app.New(s.ctx, settings, log)
	if err != nil {
		return err
	}
	err = a.Start(s.ctx)
	if err == nil {
		fmt.Fprintf(s.stdout, "Serving %s\nCredentials for the command line: %s\n", a.RootURL(), a.RootEnv())
		select {
		case <-s.ctx.Done():
			log.Info("stopping")
		case <-a.Failed():
		}
	}
	// The session's context has ended; what is left to do has a limit of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), stopTimeout)
	defer cancel()
	if stopErr := a.Stop(ctx); err == nil {
		err = stopErr
	}
	return err
}
