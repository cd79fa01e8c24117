package cli

import (
	"bytes"
	"io"
	"unicode"
	"unicode/utf8"
)

// tame lets a log, which others wrote, through to a terminal that it must not
// steer. Colours (SGR, ECMA-48 8.3.117) pass, as do tabs and line ends. Other
// control sequences (CSI) are left out. What else is a control character, turns
// the direction of writing or is not UTF-8 becomes U+FFFD. A lone carriage
// return, with which programs write over their progress, ends the line.
type tame struct {
	w        io.Writer
	rest     []byte // a sequence or character whose end has not come
	coloured bool   // since the last reset by close
	returned bool   // the last character was a carriage return
}

// maxSequence is the longest control sequence that is taken for one.
const maxSequence = 64

func (t *tame) Write(p []byte) (int, error) {
	text := p
	if len(t.rest) > 0 {
		text = append(t.rest, p...)
	}
	var out bytes.Buffer
	n := t.pass(&out, text, false)
	t.rest = append([]byte(nil), text[n:]...)
	if _, err := t.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// close passes on what is incomplete, and ends the colours.
func (t *tame) close() error {
	var out bytes.Buffer
	t.pass(&out, t.rest, true)
	t.rest = nil
	if t.coloured {
		out.WriteString("\x1b[0m")
		t.coloured = false
	}
	if out.Len() == 0 {
		return nil
	}
	_, err := t.w.Write(out.Bytes())
	return err
}

// pass writes to out what text comes to, and returns how much of it was
// complete; all of it counts as such when last is set.
func (t *tame) pass(out *bytes.Buffer, text []byte, last bool) (n int) {
	for n < len(text) {
		if text[n] == '\x1b' {
			size, sgr, whole := sequence(text[n:])
			switch {
			case !whole && !last:
				return n
			case whole && size > 0:
				if sgr {
					out.Write(text[n : n+size])
					t.coloured = true
				}
				n += size
				continue
			}
		} else if !last && !utf8.FullRune(text[n:]) {
			return n
		}
		c, size := utf8.DecodeRune(text[n:])
		after := t.returned
		t.returned = c == '\r'
		switch {
		case c == '\r':
			out.WriteByte('\n')
		case c == '\n' && after:
		case c == '\n' || c == '\t':
			out.WriteRune(c)
		default:
			out.WriteRune(visible(c))
		}
		n += size
	}
	return n
}

// sequence measures the control sequence at the beginning of text, which
// begins with ESC. Size is 0 when there is none; whole is false when more of
// the text must come to tell.
func sequence(text []byte) (size int, sgr, whole bool) {
	if len(text) == 1 {
		return 0, false, false
	}
	if text[1] != '[' {
		return 0, false, true
	}
	sgr = true
	for i := 2; i < len(text) && i < maxSequence; i++ {
		switch c := text[i]; {
		case '0' <= c && c <= ';': // digits, colon, semicolon
		case ' ' <= c && c <= '?':
			sgr = false
		case '@' <= c && c <= '~':
			return i + 1, sgr && c == 'm', true
		default:
			return 0, false, true
		}
	}
	return 0, false, len(text) >= maxSequence
}

// visible is c, or U+FFFD when c could steer a terminal.
func visible(c rune) rune {
	if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || unicode.Is(unicode.Bidi_Control, c) {
		return utf8.RuneError
	}
	return c
}

// tamed is a line of a log as it may be printed on a terminal.
func tamed(line []byte) []byte {
	var b bytes.Buffer
	t := tame{w: &b}
	t.Write(line)
	t.close()
	return b.Bytes()
}
