package purgecache

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"taskcluster/internal/clock"
)

// dateForms are the dates that JavaScript's Date.parse reads and that anybody
// sends: the format of its standard, and of what engines read besides it that
// which programs write (Date.toString, toUTCString and toLocaleString, date(1),
// Python, Go, mail).
var dateForms = compileDates()

func compileDates() []*regexp.Regexp {
	const (
		standardTime = `(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>\.\d+)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?`

		weekday = `(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?`
		month   = `(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*`
		day     = `(?P<day>\d\d?)`
		year    = `(?P<year>\d{4})`
		hours   = `(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>\.\d+)?)?(?: (?P<half>[ap]m))?`
		zone    = `(?: ?(?P<zone>(?:utc|gmt|z)?[+-]\d\d:?\d\d|utc|gmt|z|[ecmp][sd]t)(?: utc)?)?`
		comment = `(?: ?\([^()]*\))?`
		rest    = `(?:(?:t|,? )` + hours + zone + `)?` + comment
	)
	forms := []string{
		`(?P<year>[+-]\d{6}|\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d))?)?` + standardTime,
		`(?i)` + weekday + month + ` ` + day + `,? ` + year + rest,              // Mon Nov 23 2026 07:00:00 GMT+0000 (UTC)
		`(?i)` + weekday + day + ` ` + month + ` ` + year + rest,                // Mon, 23 Nov 2026 07:00:00 GMT
		`(?i)` + year + `[-/](?P<month>\d\d?)[-/]` + day + rest,                 // 2026-11-23 07:00:00.123+00:00
		`(?i)(?P<month>\d\d?)/` + day + `/` + year + rest,                       // 11/23/2026, 7:00:00 AM
		`(?i)` + weekday + month + ` +` + day + ` ` + hours + zone + ` ` + year, // Mon Nov 23 07:00:00 UTC 2026
	}
	compiled := make([]*regexp.Regexp, len(forms))
	for i, form := range forms {
		compiled[i] = regexp.MustCompile(`^` + form + `$`)
	}
	return compiled
}

// maxDate is the longest text that is looked at, in bytes.
const maxDate = 200

// validSince tells whether a text is a date other than the epoch, which
// JavaScript doesn't tell from no date.
func validSince(text string) bool {
	t, ok := parseDate(text)
	return ok && t != 0
}

// parseDate reads a date to the millisecond. Without a zone, and where
// JavaScript means local time, it is UTC, which is the zone that servers run in.
func parseDate(text string) (clock.Time, bool) {
	if len(text) > maxDate {
		return 0, false
	}
	text = strings.ReplaceAll(text, "\u202f", " ") // a narrow space, as toLocaleString writes it before AM and PM
	for _, form := range dateForms {
		if found := form.FindStringSubmatch(text); found != nil {
			return dateOf(func(part string) string {
				if i := form.SubexpIndex(part); i >= 0 {
					return found[i]
				}
				return ""
			})
		}
	}
	return 0, false
}

// dateOf makes a date of its parts. As engines do, it takes days that a month
// does not have for those of the next one.
func dateOf(part func(string) string) (clock.Time, bool) {
	number := func(name string, missing int) int {
		text := part(name)
		if text == "" {
			return missing
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return -1
		}
		return n
	}
	month := number("month", 1)
	if name := strings.ToLower(part("month")); month == -1 {
		month = strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", name)/3 + 1
	}
	year, day := number("year", 0), number("day", 1)
	hour, minute, second := number("hour", 0), number("minute", 0), number("second", 0)
	if half := strings.ToLower(part("half")); half != "" {
		if hour < 1 || hour > 12 {
			return 0, false
		}
		hour %= 12
		if half == "pm" {
			hour += 12
		}
	}
	var millis int
	if fraction := part("fraction"); fraction != "" {
		millis, _ = strconv.Atoi((fraction[1:] + "000")[:3])
	}
	midnight := hour == 24 && minute == 0 && second == 0 && millis == 0
	if month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 && !midnight || minute > 59 || second > 59 || part("year") == "-000000" {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, millis*1e6, time.UTC).UnixMilli()
	t -= int64(offset(part("zone"))) * 60_000
	const limit = 8_640_000_000_000_000 // of JavaScript's dates
	if t < -limit || t > limit {
		return 0, false
	}
	return clock.OfMillis(t), true
}

// offset is how many minutes a zone is ahead of UTC.
func offset(zone string) int {
	zone = strings.ToLower(zone)
	if i := strings.IndexAny(zone, "+-"); i >= 0 {
		n, _ := strconv.Atoi(strings.ReplaceAll(zone[i+1:], ":", ""))
		minutes := n/100*60 + n%100
		if zone[i] == '-' {
			return -minutes
		}
		return minutes
	}
	if len(zone) == 3 && zone[2] == 't' && zone != "gmt" {
		hours := -5 - strings.IndexByte("ecmp", zone[0]) // standard time
		if zone[1] == 'd' {
			hours++
		}
		return hours * 60
	}
	return 0
}
