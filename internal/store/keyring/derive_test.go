package keyring

import (
	"bytes"
	"testing"
)

func TestDerive(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := k.Derive("a")
	if len(a) != 32 || bytes.Equal(a, k.Derive("b")) {
		t.Error("a secret has 32 bytes and belongs to one purpose")
	}
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, k.Derive("a")) || !bytes.Equal(a, again.Derive("a")) {
		t.Error("a derived secret must outlive rotation and restart")
	}
}
