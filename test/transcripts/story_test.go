package transcripts

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// story is a file, read.
type story struct {
	comment []byte
	serve   []string // further arguments of the server
	steps   []*step
}

// step is one request, and once it was played its answer.
type step struct {
	name, text   string // as in the file
	again        string // the step whose request this repeats
	method, path string // names not yet replaced
	as           string
	scopes, only []string
	bewit        bool
	headers      [][2]string
	until, sort  string
	body         string

	answer string // as recorded in the file
}

const answerMark = ": answer"

func parse(a *txtar.Archive) (*story, error) {
	s := &story{comment: a.Comment}
	for line := range strings.Lines(string(a.Comment)) {
		if args, ok := strings.CutPrefix(strings.TrimSpace(line), "serve "); ok {
			s.serve = append(s.serve, strings.Fields(args)...)
		}
	}
	for _, f := range a.Files {
		if f.Name == "events" {
			continue
		}
		if of, ok := strings.CutSuffix(f.Name, answerMark); ok {
			if len(s.steps) == 0 || s.steps[len(s.steps)-1].name != of {
				return nil, fmt.Errorf("%q follows no step of that name", f.Name)
			}
			s.steps[len(s.steps)-1].answer = string(f.Data)
			continue
		}
		if s.find(f.Name) != nil {
			return nil, fmt.Errorf("two steps have the name %q", f.Name)
		}
		st, err := s.parseStep(f.Name, string(f.Data))
		if err != nil {
			return nil, fmt.Errorf("step %q: %w", f.Name, err)
		}
		s.steps = append(s.steps, st)
	}
	return s, nil
}

func (s *story) find(name string) *step {
	for _, st := range s.steps {
		if st.name == name {
			return st
		}
	}
	return nil
}

func (s *story) parseStep(name, text string) (*step, error) {
	st := &step{as: "root"}
	first, rest, _ := strings.Cut(text, "\n")
	if of, ok := strings.CutPrefix(first, "again "); ok {
		other := s.find(of)
		if other == nil {
			return nil, fmt.Errorf("no step %q before it", of)
		}
		*st = *other
		st.again, st.until, st.answer = of, "", ""
	} else if st.method, st.path, ok = strings.Cut(first, " "); !ok {
		return nil, fmt.Errorf("no request line: %q", first)
	}
	st.name, st.text = name, text
	signer := false // a signer of its own replaces that of the repeated step
	sign := func() {
		if !signer {
			st.as, st.scopes, st.only, signer = "root", nil, nil, true
		}
	}
	for rest != "" && !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, "[") {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		word, value, _ := strings.Cut(line, " ")
		switch word {
		case "as":
			sign()
			st.as = value
		case "scopes":
			sign()
			st.as = "tester"
			st.scopes = append(st.scopes, strings.Fields(value)...)
		case "only":
			sign()
			st.only = append(st.only, strings.Fields(value)...)
		case "bewit":
			st.bewit = true
		case "header":
			n, v, _ := strings.Cut(value, ": ")
			st.headers = append(st.headers[:len(st.headers):len(st.headers)], [2]string{n, v})
		case "until":
			st.until = value
		case "sort":
			st.sort = value
		case "fill":
			var n int
			var what string
			if _, err := fmt.Sscan(value, &n, &what); err != nil {
				return nil, err
			}
			st.body = strings.Repeat(what, n)
		case "body": // text that is not JSON follows
			st.body, rest = strings.TrimSuffix(rest, "\n"), ""
		default:
			return nil, fmt.Errorf("what is %q?", line)
		}
	}
	if rest != "" {
		st.body = strings.TrimSuffix(rest, "\n")
	}
	return st, nil
}

// status is that of the recorded answer, 0 when there is none.
func (st *step) status() int {
	n, _ := strconv.Atoi(st.answer[:min(3, len(st.answer))])
	return n
}

var madeName = regexp.MustCompile(`^(TASK|GROUP|ID|UPLOAD)[0-9]+$`)
