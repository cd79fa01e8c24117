package object

import (
	"bytes"
	"encoding/json"

	"taskcluster/internal/tcerr"
)

// What is kept of hashes at most: their number, and the length of the name and
// the value of each.
const (
	maxHashes   = 32
	maxHashText = 1024
)

// checkHashes brings the values into one form, and refuses too much of them.
func checkHashes(hashes map[string]json.RawMessage) error {
	if len(hashes) > maxHashes {
		return tcerr.New(tcerr.InputError, "An object may have %d hashes, these are %d", maxHashes, len(hashes))
	}
	for algorithm, value := range hashes {
		var text bytes.Buffer
		if err := json.Compact(&text, value); err != nil {
			return err
		}
		if len(algorithm) > maxHashText || text.Len() > maxHashText {
			return tcerr.New(tcerr.InputError, "The name of a hash algorithm and its value may have %d characters", maxHashText)
		}
		hashes[algorithm] = text.Bytes()
		var s string
		if json.Unmarshal(value, &s) == nil { // written with escapes or without, it is the same
			hashes[algorithm], _ = json.Marshal(s)
		}
	}
	return nil
}

// addHashes adds to the hashes of an object. Those that are there stay as they
// are.
func (o *object) addHashes(more map[string]json.RawMessage) (added bool, refusal error) {
	if o.hashes == nil {
		o.hashes = map[string]json.RawMessage{}
	}
	for algorithm, value := range more {
		old, ok := o.hashes[algorithm]
		switch {
		case !ok:
			o.hashes[algorithm] = value
			added = true
		case !bytes.Equal(old, value):
			return false, tcerr.New(tcerr.RequestConflict, "Content hash already exists with a different value: object %q has another one for the algorithm %q", o.name, algorithm)
		}
	}
	if len(o.hashes) > maxHashes {
		return false, tcerr.New(tcerr.InputError, "An object may have %d hashes, this one would have %d", maxHashes, len(o.hashes))
	}
	return added, nil
}

// sameHashes refuses hashes that a finished object does not have.
func (o *object) sameHashes(given map[string]json.RawMessage) error {
	for algorithm, value := range given {
		old, ok := o.hashes[algorithm]
		switch {
		case !ok:
			return tcerr.New(tcerr.RequestConflict, "Upload of object %q is already finished, but without hash algorithm %q", o.name, algorithm)
		case !bytes.Equal(old, value):
			return tcerr.New(tcerr.RequestConflict, "Upload of object %q is already finished, but with a different hash for algorithm %q", o.name, algorithm)
		}
	}
	return nil
}
