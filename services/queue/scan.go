package queue

import "encoding/json"

// eachMember calls f for the members of a JSON object, in order. The text must
// be valid JSON in UTF-8, which everything is that passed a schema; values keep
// their text.
func eachMember(object []byte, f func(name string, value []byte)) {
	i := skipSpace(object, 0) + 1 // past the brace
	for {
		i = skipSpace(object, i)
		if i >= len(object) || object[i] == '}' {
			return
		}
		if object[i] == ',' {
			i++
			continue
		}
		end := skipValue(object, i)
		name := object[i:end]
		i = skipSpace(object, end) + 1 // past the colon
		i = skipSpace(object, i)
		end = skipValue(object, i)
		if plain := name[1 : len(name)-1]; isPlain(plain) {
			f(string(plain), object[i:end])
		} else {
			f(unquote(name), object[i:end])
		}
		i = end
	}
}

// eachElement calls f for the elements of a JSON array, in order. What holds for
// eachMember holds here.
func eachElement(array []byte, f func(value []byte)) {
	i := skipSpace(array, 0) + 1 // past the bracket
	for {
		i = skipSpace(array, i)
		if i >= len(array) || array[i] == ']' {
			return
		}
		if array[i] == ',' {
			i++
			continue
		}
		end := skipValue(array, i)
		f(array[i:end])
		i = end
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue gives the end of the value that starts at i.
func skipValue(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			i++
			continue
		default:
			for i < len(b) && !ends(b[i]) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

func ends(c byte) bool {
	switch c {
	case ',', '}', ']', ' ', '\n', '\t', '\r':
		return true
	}
	return false
}

func isPlain(b []byte) bool {
	for _, c := range b {
		if c == '\\' {
			return false
		}
	}
	return true
}

// unquote gives the value of a JSON string.
func unquote(text []byte) string {
	if len(text) >= 2 && isPlain(text) {
		return string(text[1 : len(text)-1])
	}
	var s string
	_ = json.Unmarshal(text, &s) // valid by contract
	return s
}

// stringsOf gives the elements of a JSON array of strings.
func stringsOf(text []byte) []string {
	if len(text) <= 2 {
		return nil
	}
	var list []string
	_ = json.Unmarshal(text, &list) // valid by contract
	return list
}
