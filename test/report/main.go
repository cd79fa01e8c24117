// Command report reads what `go test -json` writes and prints what people want
// of it: a line for each package, all that a failed test said, and at the end
// the notes of the tests that did not run, which go test hides where others
// passed. Nothing is skipped silently.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	if err := report(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// event is a line of `go test -json` (see `go doc test2json`).
type event struct {
	Action, Package, ImportPath, Test, Output string
}

type test struct{ pkg, name string }

// reading is what was read so far.
type reading struct {
	out    io.Writer
	said   map[string][]event // by package, until it has ended
	ended  map[test]string    // the worst of fail, pass and skip, in this order
	notes  []note
	failed []string
}

type note struct {
	test
	text string
}

// report copies from in to out what matters.
func report(in io.Reader, out io.Writer) error {
	r := &reading{out: out, said: map[string][]event{}, ended: map[test]string{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		var e event
		if json.Unmarshal([]byte(line), &e) == nil {
			r.take(e)
		} else {
			io.WriteString(out, line) // of scripts between runs
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	r.summary()
	return nil
}

func (r *reading) take(e event) {
	name := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		io.WriteString(r.out, e.Output)
	case "output":
		if _, text, ok := strings.Cut(e.Output, "NOTE: "); ok {
			r.notes = append(r.notes, note{name, strings.TrimSpace(text)})
		}
		r.said[e.Package] = append(r.said[e.Package], e)
	case "pass", "skip", "fail":
		if before := r.ended[name]; before != "fail" && (before != "pass" || e.Action == "fail") {
			r.ended[name] = e.Action
		}
		if e.Test == "" {
			r.end(e)
		}
	}
}

// end prints a package that has ended. Of one that failed, it leaves out what
// tests that did not fail said.
func (r *reading) end(e event) {
	for _, s := range r.said[e.Package] {
		switch ended := r.ended[test{s.Package, s.Test}]; {
		case s.Test != "" && e.Action == "fail" && ended != "pass" && ended != "skip",
			s.Test == "" && (e.Action == "fail" || strings.HasPrefix(s.Output, "ok") || strings.HasPrefix(s.Output, "?")):
			io.WriteString(r.out, s.Output)
		}
	}
	delete(r.said, e.Package)
	if e.Action == "fail" {
		r.failed = append(r.failed, e.Package)
	}
}

// summary tells what did not run, each reason once, and what failed. A test
// that was skipped on one database or with the race detector, and passed
// otherwise, did run.
func (r *reading) summary() {
	reasons := map[string][]string{}
	for _, n := range r.notes {
		name := strings.TrimSpace(n.pkg + " " + n.name)
		if r.ended[n.test] == "skip" && !slices.Contains(reasons[n.text], name) {
			reasons[n.text] = append(reasons[n.text], name)
		}
	}
	if len(reasons) > 0 {
		fmt.Fprintln(r.out, "\nNot everything was tested:")
	}
	for _, text := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(r.out, "NOTE: %s\n", text)
		for _, name := range reasons[text] {
			fmt.Fprintf(r.out, "      %s\n", name)
		}
	}
	for _, pkg := range r.failed {
		fmt.Fprintf(r.out, "FAILED: %s\n", pkg)
	}
}
