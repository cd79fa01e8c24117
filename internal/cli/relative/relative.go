// Package relative reads spans of time as people write them in task files and
// on the command line: "1 day 2 hours", "5d3h", "- 30 minutes".
//
// It accepts the strings of the published taskcluster.fromNow, and has its
// fixed lengths: a year is 365 days, a month 30 days, a week 7 days.
package relative

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// unit is one unit of time with the names it may be written with.
type unit struct {
	names  []string
	length time.Duration
}

const day = 24 * time.Hour

// units in the order in which they must appear in a span.
var units = []unit{
	{[]string{"years", "year", "yr", "y"}, 365 * day},
	{[]string{"months", "month", "mo"}, 30 * day},
	{[]string{"weeks", "week", "wk", "w"}, 7 * day},
	{[]string{"days", "day", "d"}, day},
	{[]string{"hours", "hour", "hr", "h"}, time.Hour},
	{[]string{"minutes", "minute", "min", "m"}, time.Minute},
	{[]string{"seconds", "second", "sec", "s"}, time.Second},
}

// Parse reads a span: an optional sign, then numbers with units, the longest
// unit first and each at most once. Space between the parts is free. A span
// of more than about 292 years is refused.
func Parse(text string) (time.Duration, error) {
	rest := strings.TrimSpace(text)
	negative := false
	switch {
	case strings.HasPrefix(rest, "-"):
		negative, rest = true, rest[1:]
	case strings.HasPrefix(rest, "+"):
		rest = rest[1:]
	}
	var total time.Duration
	next := 0 // index of the longest unit that may still come
	for first := true; ; first = false {
		rest = strings.TrimLeft(rest, " \t\r\n")
		if rest == "" {
			if first {
				return 0, fail(text, errors.New("no number"))
			}
			if negative {
				total = -total
			}
			return total, nil
		}
		var (
			n   int64
			err error
		)
		if n, rest, err = number(rest); err != nil {
			return 0, fail(text, err)
		}
		rest = strings.TrimLeft(rest, " \t\r\n")
		name := rest[:letters(rest)]
		rest = rest[len(name):]
		i := find(name)
		switch {
		case name == "":
			return 0, fail(text, fmt.Errorf("%d has no unit", n))
		case i < 0:
			return 0, fail(text, fmt.Errorf("unknown unit %q", name))
		case i < next:
			return 0, fail(text, fmt.Errorf("%q must come earlier, and only once", name))
		}
		next = i + 1
		length := int64(units[i].length)
		if n > (math.MaxInt64-int64(total))/length {
			return 0, fail(text, errors.New("too long"))
		}
		total += time.Duration(n * length)
	}
}

// fail says what is wrong with a span and how one looks.
func fail(text string, cause error) error {
	return fmt.Errorf("%q is not a span of time (%w); write it like \"1 day 2 hours\" or \"30m\"", text, cause)
}

// number reads decimal digits at the start of text.
func number(text string) (n int64, rest string, err error) {
	i := 0
	for i < len(text) && '0' <= text[i] && text[i] <= '9' {
		digit := int64(text[i] - '0')
		if n > (math.MaxInt64-digit)/10 {
			return 0, "", errors.New("too long")
		}
		n = n*10 + digit
		i++
	}
	if i == 0 {
		return 0, "", fmt.Errorf("expected a number at %q", text)
	}
	return n, text[i:], nil
}

// letters counts the ASCII letters at the start of text.
func letters(text string) int {
	for i := range len(text) {
		if c := text[i] | 0x20; c < 'a' || c > 'z' {
			return i
		}
	}
	return len(text)
}

// find returns the index of the unit with that name, or -1.
func find(name string) int {
	for i, u := range units {
		for _, n := range u.names {
			if n == name {
				return i
			}
		}
	}
	return -1
}
