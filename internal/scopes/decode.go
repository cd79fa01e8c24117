package scopes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

const (
	// MaxExprBytes is the largest JSON text of an expression or a template that
	// is read.
	MaxExprBytes = 1 << 20
	// MaxExprDepth is how deep objects and arrays may be nested in it.
	MaxExprDepth = 64
)

// value is the JSON that expressions and templates consist of: a string, an
// array or an object whose keys are exact and appear once.
type value struct {
	kind   valueKind
	text   string
	list   []value
	fields map[string]value
}

type valueKind uint8

const (
	isText valueKind = iota
	isList
	isObject
)

// decode reads one JSON text within the limits of this package. It uses the
// token stream because encoding/json matches keys of structs in any case and
// lets the last of several equal keys win.
func decode(data []byte) (value, error) {
	if len(data) > MaxExprBytes {
		return value{}, fmt.Errorf("is longer than %d bytes", MaxExprBytes)
	}
	if !json.Valid(data) {
		return value{}, errors.New("is not valid JSON")
	}
	return decodeValue(json.NewDecoder(bytes.NewReader(data)), 0)
}

func decodeValue(d *json.Decoder, depth int) (value, error) {
	token, err := d.Token()
	if err != nil {
		return value{}, err
	}
	switch t := token.(type) {
	case string:
		return value{kind: isText, text: t}, nil
	case json.Delim:
		if depth == MaxExprDepth {
			return value{}, fmt.Errorf("is nested deeper than %d levels", MaxExprDepth)
		}
		v := value{kind: isList}
		if t == '{' {
			v = value{kind: isObject, fields: map[string]value{}}
		}
		for d.More() {
			if err := v.decodeElement(d, depth+1); err != nil {
				return value{}, err
			}
		}
		_, err := d.Token() // the closing delimiter
		return v, err
	}
	return value{}, fmt.Errorf("contains %v where a string, an array or an object must be", token)
}

func (v *value) decodeElement(d *json.Decoder, depth int) error {
	if v.kind == isList {
		element, err := decodeValue(d, depth)
		v.list = append(v.list, element)
		return err
	}
	key, err := d.Token()
	if err != nil {
		return err
	}
	name := key.(string) // json.Valid has seen to it
	if _, ok := v.fields[name]; ok {
		return fmt.Errorf("contains the key %q twice", name)
	}
	v.fields[name], err = decodeValue(d, depth)
	return err
}

// only returns whether v is an object that has exactly the given keys.
func (v value) only(keys ...string) bool {
	if v.kind != isObject || len(v.fields) != len(keys) {
		return false
	}
	for _, key := range keys {
		if _, ok := v.fields[key]; !ok {
			return false
		}
	}
	return true
}

// appendJSONString appends s as a JSON string in which <, > and & stand for
// themselves.
func appendJSONString(dst []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= 0x20 && s[i] <= 0x7e && s[i] != '"' && s[i] != '\\'
	}
	if plain {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // writing a string to a buffer cannot fail
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}
