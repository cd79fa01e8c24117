package queue

import "taskcluster/internal/clock"

type artifact struct {
	name, storageType, contentType string
	contentLength                  int64
	expires                        clock.Time
	details, message               string
}
