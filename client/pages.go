package client

import (
	"errors"
	"iter"
)

// Pages calls fetch with each continuation token in turn, starting with
// first, and yields the pages until one has no token. After an error the
// sequence ends. A page may be empty and not be the last.
func Pages[P any](first string, fetch func(token string) (*P, error), next func(*P) string) iter.Seq2[*P, error] {
	return func(yield func(*P, error) bool) {
		for token := first; ; {
			page, err := fetch(token)
			if err != nil {
				yield(nil, err)
				return
			}
			following := next(page)
			if !yield(page, nil) || following == "" {
				return
			}
			if following == token {
				yield(nil, errors.New("client: the server repeats a continuation token"))
				return
			}
			token = following
		}
	}
}
