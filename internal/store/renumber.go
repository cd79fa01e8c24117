package store

import (
	"strconv"
	"strings"
)

// renumber replaces each `?` placeholder of a statement by `$1`, `$2`, … and
// leaves alone what stands in quotes and comments.
func renumber(text string) string {
	var out strings.Builder
	n := 0
	for rest := text; rest != ""; {
		size := token(rest)
		if rest[:size] == "?" {
			n++
			out.WriteByte('$')
			out.WriteString(strconv.Itoa(n))
		} else {
			out.WriteString(rest[:size])
		}
		rest = rest[size:]
	}
	return out.String()
}

// writes tells whether a statement may change data: whether one of the words
// that do occurs outside quotes and comments. `SELECT … FOR UPDATE` counts.
func writes(text string) bool {
	for rest := text; rest != ""; {
		size := token(rest)
		switch strings.ToUpper(rest[:size]) {
		case "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "CREATE", "DROP", "ALTER", "PRAGMA", "VACUUM", "TRUNCATE", "ATTACH", "DETACH", "REINDEX":
			return true
		}
		rest = rest[size:]
	}
	return false
}

// token is the length of the first token of s, which is not empty: a quoted
// string (”, "", $tag$), a comment, a word, or a single other byte. Quotes
// and comments that do not end reach to the end of s. This is the lexical
// structure of PostgreSQL's manual, section 4.1, with standard-conforming
// strings; SQLite's is a subset.
func token(s string) int {
	switch c := s[0]; {
	case c == '\'' || c == '"':
		return quoted(s, c)
	case strings.HasPrefix(s, "--"):
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			return i + 1
		}
		return len(s)
	case strings.HasPrefix(s, "/*"):
		return comment(s)
	case c == '$':
		return dollar(s)
	case (c == 'e' || c == 'E') && len(s) > 1 && s[1] == '\'':
		return 1 + escaped(s[1:])
	case wordByte(c):
		i := 1
		for i < len(s) && (wordByte(s[i]) || s[i] == '$') {
			i++
		}
		return i
	}
	return 1
}

// quoted is the length of a string in quotes, in which the doubled quote
// stands for itself.
func quoted(s string, quote byte) int {
	for i := 1; i < len(s); i++ {
		if s[i] == quote {
			if i+1 == len(s) || s[i+1] != quote {
				return i + 1
			}
			i++
		}
	}
	return len(s)
}

// escaped is the length of a string in single quotes with backslash escapes.
func escaped(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			if i+1 == len(s) || s[i+1] != '\'' {
				return i + 1
			}
			i++
		}
	}
	return len(s)
}

// comment is the length of a comment; comments nest.
func comment(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); {
		switch s[i : i+2] {
		case "/*":
			depth++
			i += 2
		case "*/":
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return len(s)
}

// dollar is the length of a dollar-quoted string, or 1 where a dollar sign
// does not start one.
func dollar(s string) int {
	i := 1
	for i < len(s) && wordByte(s[i]) && (i > 1 || s[i] < '0' || s[i] > '9') {
		i++
	}
	if i == len(s) || s[i] != '$' {
		return 1
	}
	tag := s[:i+1]
	end := strings.Index(s[len(tag):], tag)
	if end < 0 {
		return len(s)
	}
	return len(tag) + end + len(tag)
}

func wordByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
}
