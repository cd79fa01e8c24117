package main

import (
	"os"
	"syscall"
	"unsafe"
)

// shift is what package time, as it is built for TestClockJumps, adds to the
// seconds that the kernel tells. It lies in a file, so that it changes for the
// whole program at once.
//
//go:linkname shift time.shift
var shift *int64

func init() {
	f, err := os.Open(os.Getenv("CRASH_CLOCK"))
	if err != nil {
		panic(err)
	}
	defer f.Close()
	b, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	shift = (*int64)(unsafe.Pointer(&b[0]))
}
