package cli

import (
	"errors"
	"fmt"

	"taskcluster/internal/app"
	"taskcluster/internal/events"
)

// adminLettersCommands look at dead letters and do something about them.
type adminLettersCommands struct {
	List    adminLettersListCommand    `cmd:"" help:"List the events that were given up."`
	Show    adminLettersShowCommand    `cmd:"" help:"Print one of them, with what it says."`
	Replay  adminLettersReplayCommand  `cmd:"" help:"Give some back to their consumers, which try each once more."`
	Discard adminLettersDiscardCommand `cmd:"" help:"Delete some."`
}

// lettersPage is how many dead letters are asked for at once.
const lettersPage = 500

// open reaches the dead letters of the deployment.
func (p *place) letters(s *session) (app.DeadLetters, error) {
	settings, err := p.settings(s)
	if err != nil {
		return nil, err
	}
	return app.OpenDeadLetters(s.ctx, settings, adminLog(s))
}

// explainLetter names the letter that is not there.
func explainLetter(id int64, err error) error {
	if errors.Is(err, events.ErrNoDeadLetter) {
		return fmt.Errorf("there is no dead letter %d: it was discarded, or a replay has succeeded; \"taskcluster admin dead-letters list\" shows those that are there", id)
	}
	return err
}

// which picks dead letters.
type which struct {
	IDs []int64 `arg:"" optional:"" name:"id" help:"Numbers of dead letters, as list prints them."`
	All bool    `help:"All of them."`
}

// each does something with the letters that were picked, and returns which.
func (w *which) each(s *session, l app.DeadLetters, do func(id int64) error) (done []int64, err error) {
	if w.All == (len(w.IDs) > 0) {
		return nil, usageError("give numbers of dead letters, or --all")
	}
	done = []int64{}
	apply := func(id int64) error {
		err := do(id)
		if err == nil {
			done = append(done, id)
		} else if w.All && errors.Is(err, events.ErrNoDeadLetter) {
			err = nil // it went away by itself
		}
		return explainLetter(id, err)
	}
	for _, id := range w.IDs {
		if err := apply(id); err != nil {
			return done, err
		}
	}
	for after := int64(0); w.All; {
		page, err := l.List(s.ctx, after, lettersPage)
		if err != nil || len(page) == 0 {
			return done, err
		}
		for _, d := range page {
			if err := apply(d.ID); err != nil {
				return done, err
			}
			after = d.ID
		}
	}
	return done, nil
}
